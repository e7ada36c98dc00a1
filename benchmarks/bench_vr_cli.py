"""VR-CLI of 8 plans for one pair against that of one plan, SmolLM2-135M as the reference, float32.

Three shapes, with plans of 128 tokens: 2,000 tokens of story information and the first 512 of the next
chapter (`score_tokens`), which a CPU can afford; and about as much as fits SmolLM2's context, 6,000
with 512 and 1,024. Nothing is on disk: either side computes the information and the chapter without a
plan once. Plan and chapter after it can be shared with nothing: the ratio grows with their share. What
is left out: sampling plans.
"""

import tempfile
from pathlib import Path

import torch

from harness import interleaved, report_pairs, text_ids
from litereason.likelihood import Passage, Reference

PLAN, SHAPES = 128, ((2000, 512), (6000, 512), (6000, 1024))  # information, chapter


def measure(reference: Reference, information: int, chapter: int) -> None:
    """One shape, as ids of the same prose."""
    ids = text_ids(reference.tokenizer, 10, information + chapter).tolist()
    prompt, text = ids[0][:information], ids[0][information:]
    plans = [row[:PLAN] for row in ids[1:9]]

    def score(count: int) -> list[float]:
        passages = [Passage([], text), *(Passage(plan, text) for plan in plans[:count])]
        return reference.losses(prompt, passages)

    reference.losses(prompt[:64], [Passage(plans[0], text[:64])])  # loads the model
    pairs = interleaved(lambda: score(8), lambda: score(1), 1, warm_up=0)
    name = f"VR-CLI of 8 plans, {information} + {chapter} tokens"
    report_pairs(name, "one plan", pairs, "<= 2.5")


def main() -> None:
    torch.set_num_threads(1)
    reference = Reference("smollm2-135m", Path(tempfile.mkdtemp()))
    for shape in SHAPES:
        measure(reference, *shape)


if __name__ == "__main__":
    main()
