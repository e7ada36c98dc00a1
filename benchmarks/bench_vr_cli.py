"""VR-CLI of 8 plans for one pair against that of one plan, SmolLM2-135M as the reference, float32.

Three shapes, with plans of 128 tokens: 2,000 tokens of story information and the first 512 of the next
chapter (`score_tokens`), which a CPU can afford; and about as much as fits SmolLM2's context, 6,000
with 512 and 1,024. Nothing is on disk: either side computes the information and the chapter without a
plan once. Plan and chapter after it can be shared with nothing: the ratio grows with their share, and the
limit is the ratio of the operations that are left when all that can be shared is. What is left out:
sampling plans.
"""

import tempfile
from pathlib import Path

import torch

from harness import interleaved, report, report_pairs, text_ids
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
    limit = operations(reference, information, chapter, 8) / operations(
        reference, information, chapter, 1
    )
    report(f"{name}, to the limit", pairs.ratio, ("operations", limit), "<= 1.25", "ratio", pairs.n)


def operations(reference: Reference, information: int, chapter: int, plans: int) -> float:
    """Multiplications of scoring so many plans: information once, head where a chapter's loss is read."""
    model, config = reference.model, reference.model.config
    head = config.vocab_size * config.hidden_size
    body = sum(p.numel() for p in model.parameters()) - head  # embeddings are tied
    stretches = [(0, information), (information, chapter)]
    stretches += [(information, PLAN + chapter)] * plans
    positions = sum(new for _, new in stretches)
    seen = sum(new * (past + (new + 1) / 2) for past, new in stretches)
    attention = 2 * config.num_hidden_layers * config.hidden_size * seen
    return positions * body + (1 + plans) * chapter * head + attention


def main() -> None:
    torch.set_num_threads(1)
    reference = Reference("smollm2-135m", Path(tempfile.mkdtemp()))
    for shape in SHAPES:
        measure(reference, *shape)


if __name__ == "__main__":
    main()
