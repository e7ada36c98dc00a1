"""Told latents (`litereason sft --method distil`): rows of like length together, against the batch at once.

The tiny story model, batches of 64 rows as its recipes train on, all sentences
replaced or half of them, forward and backward. What is left out: the optimiser's step, larger models
(their groups follow the same prices), GPUs.
"""

import tempfile
from unittest import mock

import torch

import litereason
from harness import interleaved, report_pairs
from litereason import fill_plan
from litereason.compressed import CompressedTrainer, collate
from litereason.distil import distil_losses
from litereason.sampling import encode
from litereason.sft import ProjectorConfig
from litereason.stories.tiny import tiny_model, tiny_tokenizer
from litereason.tasks import get_task
from litereason.traces import Replacement, training_rows

BATCHES, ROWS = 3, 64
AT_ONCE = 10**9  # the price of a pass at which everything goes into one


def main() -> None:
    """Measure training steps of both kinds."""
    torch.set_num_threads(1)
    task = get_task("stories", {"style": "delta"})
    tokenizer = tiny_tokenizer([*task.instructions.values()])
    config = litereason.LatentConfig(projector="rms", depth=1)
    model = litereason.attach(tiny_model(tokenizer), tokenizer, config)
    tags = model.latent_tags
    traces = [
        (encode(tokenizer, task.prompt(example, "latent"), tags), task.demonstration(example))
        for example in task.examples("train", BATCHES * ROWS // 2)
    ]
    how = Replacement((0.5, 1.0), 1, 0.6, "prompt")
    rows = training_rows(traces, how, tokenizer, tags, 0)[: BATCHES * ROWS]
    batches = [collate(rows[k : k + ROWS], 0) for k in range(0, len(rows), ROWS)]
    with tempfile.TemporaryDirectory() as directory:
        settings = ProjectorConfig(output_dir=directory, use_cpu=True, train="all")
        trainer = CompressedTrainer(model, settings, rows, 0, losses=distil_losses, weight=3.0)

    def train() -> None:
        for batch in batches:
            trainer.compute_loss(model, batch).backward()
            model.zero_grad()

    def at_once() -> None:
        with mock.patch.dict(fill_plan.PASS_COST, cpu=AT_ONCE):
            train()

    pairs = interleaved(train, at_once, 5)
    report_pairs("told latents, tiny model", "the batch at once", pairs, "<= 0.85")


if __name__ == "__main__":
    main()
