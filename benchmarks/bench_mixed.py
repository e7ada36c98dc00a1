"""A batch whose rows think at different times against plain decoding of as many positions.

16 rows of 48 new positions, greedy, float32. A processor forces the text of each row and up to two
tags in it, two positions later in every next row, so that at most steps some rows write and others
are in a thought; the same processor runs in the plain arm, which writes on where the other thinks.
The projector's own arithmetic is part of the ratio. What is left out: what thinking saves, which is
a shorter text.
"""

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from harness import interleaved, plain_and_latent, report_pairs, text_ids

ROWS, PROMPT, NEW, STEPS, PERIOD = 16, 32, 48, 4, 24


class Forced(LogitsProcessor):
    """Forces the ids of `plan`, shape `(rows, new)`."""

    def __init__(self, plan: torch.Tensor) -> None:
        self.plan = plan

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = self.plan[:, input_ids.shape[1] - PROMPT, None]
        return torch.full_like(scores, -torch.inf).scatter(1, wanted, 0.0)


def with_tags(text: torch.Tensor, tag: list[int]) -> tuple[torch.Tensor, int]:
    """`text` `(rows, new)` with the ids of `tag` put in, and how many latent steps follow in all.

    A row's first thought starts at twice its number, the next PERIOD later, if it ends in time.
    """
    plan, thoughts = text.clone(), 0
    for row in range(ROWS):
        for start in range(2 * row % PERIOD, NEW - len(tag) - STEPS + 1, PERIOD):
            plan[row, start : start + len(tag)] = torch.tensor(tag)
            thoughts += 1
    return plan, thoughts * STEPS


def main() -> None:
    """Measure, after checking that as many positions were latent as planned."""
    plain, latent, tokenizer = plain_and_latent()
    tags = latent.latent_tags
    tag = tokenizer(tags.text(STEPS), add_special_tokens=False).input_ids
    ids, text = text_ids(tokenizer, ROWS, PROMPT + NEW).split([PROMPT, NEW], 1)
    plan, planned = with_tags(text, tag)

    def write(model) -> torch.Tensor:
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([Forced(plan)]),
            min_new_tokens=NEW,
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )

    slots = write(latent)[:, PROMPT:] == tags.latent_token_id
    if int(slots.sum()) != planned:
        raise AssertionError(f"{int(slots.sum())} latent positions, {planned} were planned")
    mixed = (slots.any(0) & ~slots.all(0)).float().mean()
    print(f"latent positions: {slots.float().mean():.0%}; steps in mixed modes: {mixed:.0%}")
    write(plain)
    pairs = interleaved(lambda: write(latent), lambda: write(plain), 5, warm_up=0)
    report_pairs("mixed, batch 16", "plain generate", pairs, "<= 1.05")


if __name__ == "__main__":
    main()
