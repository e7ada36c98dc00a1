"""The whole story on the embedded task, on two CPU cores: `litereason demo`.

A comparison (`compare/`) of a few arms under one seed, with a tiny base model that is trained from nothing:
base, direct answers, ordinary RL, LiteReason, and LiteReason's controls. Each arm is judged on held-out
stories, and the report says what held. Nothing is chosen on the test split.
"""

import dataclasses
from pathlib import Path
from typing import Any

from litereason.compare.command import compare
from litereason.compare.config import CompareConfig
from litereason.options import option

ARMS = ("base", "direct", "rl", "direct-rl", "litereason", "pause", "litereason-other-row")
QUICK_NOTE = "A quick run: every stage works, its models are hardly trained. Read no result off it."
NEW_TOKENS = 200
PROMPTS_A_STEP = 16
EPOCHS = 3  # passes over the RL prompts, so that the projector is refreshed twice on the way


@dataclasses.dataclass(kw_only=True)
class DemoConfig:
    """Run every stage on the embedded task and write a report (about 15 minutes on 2 cores)."""

    run_dir: str = option("runs/demo", "where everything goes")
    quick: bool = option(False, "a smaller run of a few minutes, to see all stages work")
    seed: int = option(0, "seed of everything random")
    workers: int = option(3, "arms that run side by side, a thread and about 1 GB each")


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of everything; `lessons` are those of the base model."""

    lessons: dict[str, Any]
    collect_prompts: int
    sft_steps: int
    rl_steps: int
    test_items: int


FULL = Scale({}, 600, 80, 45, 500)
QUICK = Scale({"steps": 60, "curriculum": 40, "hasty_steps": 10}, 40, 10, 3, 60)


def demo(config: DemoConfig) -> Path | None:
    """Run the demo; returns the report's path."""
    scale = QUICK if config.quick else FULL
    return compare(
        CompareConfig(
            run_dir=config.run_dir,
            arms=ARMS,
            seeds=(config.seed,),
            workers=config.workers,
            note=QUICK_NOTE if config.quick else None,
            **recipe(scale),
        )
    )


def recipe(scale: Scale) -> dict[str, Any]:
    """What `litereason compare` would read from a file: same prompts, sampler and budgets for all arms."""
    return {
        "base": scale.lessons,
        "collect": {
            "limit": scale.collect_prompts,
            "samples": 5,
            "batch_size": 250,
            "max_new_tokens": NEW_TOKENS,
        },
        "sft": {
            "projector": "rms",
            "projector_depth": 1,
            "limit": scale.collect_prompts,
            "train": "all",
            "shares": [0.10, 0.25],
            "copies": 1,
            "loss_after": "prompt",
            "max_steps": scale.sft_steps,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 32,
            "gradient_accumulation_steps": 1,
            "max_grad_norm": 1.0,
            "logging_steps": 5,
        },
        "rl": {
            "limit": PROMPTS_A_STEP * max(1, scale.rl_steps // EPOCHS),
            "max_steps": scale.rl_steps,
            "learning_rate": 3e-4,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 5,
            "adam_beta2": 0.95,
            "max_grad_norm": 1.0,
            "loss_type": "dr_grpo",
            "num_generations": 8,
            "per_device_train_batch_size": 64,
            "gradient_accumulation_steps": PROMPTS_A_STEP * 8 // 64,
            "max_completion_length": NEW_TOKENS,
            "logging_steps": 1,
            "save_steps": 20,
        },
        "eval": {
            "limit": scale.test_items,
            "samples": 1,
            "batch_size": 250,
            "max_new_tokens": NEW_TOKENS,
        },
    }
