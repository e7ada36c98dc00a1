"""The tiny base model of the demo and of comparisons, trained from nothing in minutes."""

import os
from pathlib import Path
from typing import Any

import torch

from litereason.console import say
from litereason.run_dir import open_stage
from litereason.sft import ProjectorConfig, ProjectorTrainer
from litereason.side_by_side import one_thread
from litereason.stages.training import defaults, finish
from litereason.stories.pretrain import Lessons, MuonAdamW, lesson_rows
from litereason.stories.tiny import SPECIAL, tiny_model, tiny_tokenizer
from litereason.tasks.stories import StoriesTask
from litereason.trainers import use_our_callbacks, whole_checkpoint

MUON_LEARNING_RATE = 5e-3
__all__ = ["Lessons", "train_base"]


def train_base(directory: Path, lessons: Lessons, seed: int) -> Path:
    """The tiny base model, trained from nothing with the projector trainer's public code path."""
    open_stage(directory, lessons)
    out = directory / "model"
    if out.exists():
        say(f"base: already complete, {out}")
        return out
    tokenizer = tiny_tokenizer(list(StoriesTask.instructions.values()))
    model = tiny_model(tokenizer, seed, lessons.layers)
    rows = lesson_rows(tokenizer, lessons, seed)
    options: dict[str, Any] = defaults(seed) | {"save_steps": 100}
    settings = ProjectorConfig(
        output_dir=str(directory / "checkpoints"),
        train="all",
        learning_rate=MUON_LEARNING_RATE,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=min(50, lessons.steps // 4),
        lr_scheduler_kwargs={"num_decay_steps": int(0.4 * lessons.steps), "min_lr_ratio": 0.05},
        per_device_train_batch_size=lessons.batch_size,
        gradient_accumulation_steps=1,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        group_threads=os.cpu_count() or 1,
        logging_steps=10,
        **options,
    )
    torch.manual_seed(seed)
    optimizer = MuonAdamW(model, MUON_LEARNING_RATE)
    trainer = ProjectorTrainer(
        model, settings, rows, SPECIAL.index("<pad>"), optimizers=(optimizer, None)
    )
    use_our_callbacks(trainer, "base", directory / "metrics.jsonl")
    with one_thread():
        trainer.train(resume_from_checkpoint=whole_checkpoint(directory / "checkpoints"))
    return finish(model, tokenizer, directory)
