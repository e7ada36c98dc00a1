"""VR-CLI of 8 plans for one pair against that of one plan, SmolLM2-135M as the reference, float32.

A pair as next-chapter prediction has them, as far as SmolLM2's context of 8,192 goes: 6,000 tokens of story
information, plans of 128, the first 1,024 of the next chapter (`score_tokens`). Nothing is on disk: either
side computes the information and the chapter without a plan once. What a plan's own part costs, plan and
chapter, can be shared with nothing: the ratio holds for this shape and grows with the chapter's share. What
is left out: sampling plans.
"""

import tempfile
from pathlib import Path

import torch

from harness import interleaved, report_pairs, text_ids
from litereason.likelihood import Passage, Reference

INFORMATION, PLAN, CHAPTER, REPEATS = 6000, 128, 1024, 1


def main() -> None:
    torch.set_num_threads(1)
    reference = Reference("smollm2-135m", Path(tempfile.mkdtemp()))
    ids = text_ids(reference.tokenizer, 10, INFORMATION + CHAPTER).tolist()
    prompt, text = ids[0][:INFORMATION], ids[0][INFORMATION:]
    plans = [row[:PLAN] for row in ids[1:9]]

    def score(count: int) -> list[float]:
        passages = [Passage([], text), *(Passage(plan, text) for plan in plans[:count])]
        return reference.losses(prompt, passages)

    reference.losses(prompt[:64], [Passage(plans[0], text[:64])])  # loads the model
    pairs = interleaved(lambda: score(8), lambda: score(1), REPEATS, warm_up=0)
    name = f"VR-CLI of 8 plans, {INFORMATION} + {CHAPTER} tokens"
    report_pairs(name, "one plan", pairs, "<= 2.5")


if __name__ == "__main__":
    main()
