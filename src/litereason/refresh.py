"""The projector refresh: after an epoch of RL, stage 2 again on some of its rewarded trajectories.

A small loop of its own and not a trainer, because it runs inside one: it leaves the trainer's random
numbers, schedule and processes alone. Every process trains on the same rows in the same order, so that
replicas stay equal without a word between them (arXiv 2512.02240).
"""

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from litereason import cost
from litereason.losses import next_token_loss
from litereason.model import causal_lm, projector_of
from litereason.sft import Row, mean_loss, right_padded
from litereason.traces import Replacement, training_rows

HELD_OUT = 16  # rows on which the loss is logged before and after
ROWS = 16  # rows a step (the paper's effective batch)
CLIP = 0.2  # bound on the norm of the gradients
WARM_UP = 0.1  # share of the steps over which the rate rises; the first has one already
LEAST_RATE = 0.1  # of the learning rate, at the end of the cosine


class Refreshed(NamedTuple):
    """Loss in nats a token on up to `HELD_OUT` of the rows before and after, and what was done."""

    before: float
    after: float
    rows: int
    positions: int  # of these rows
    slots: int  # latent ones among them
    skipped: int  # steps whose gradients were not finite


def refresh_projector(
    model: Any,
    tokenizer: Any,
    trajectories: Sequence[tuple[list[int], str]],
    shares: Sequence[float],
    learning_rate: float,
    seed: int,
    max_latent_steps: int | None = None,
) -> Refreshed:
    """Train the projector on `(prompt ids, completion text)` trajectories; the policy does not move.

    Args:
        shares: shares of sentences replaced (s_r).
        max_latent_steps: the bound on a thought under which the trajectories were made.

    Raises:
        DataError: not one sentence could be replaced.
    """
    inner = causal_lm(model)
    how = Replacement(shares=tuple(shares), copies=1)
    tags = inner.latent_tags
    if max_latent_steps is not None:
        tags = tags.limited(max_latent_steps)
    rows = training_rows(trajectories, how, tokenizer, tags, seed)
    pad = tokenizer.pad_token_id
    before = mean_loss(model, rows[:HELD_OUT], pad)
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    projector_of(model).requires_grad_(True)
    try:
        skipped = fit(model, rows, pad, learning_rate, seed)
    finally:
        model.requires_grad_(False)
        for parameter in trainable:
            parameter.requires_grad_(True)
    after = mean_loss(model, rows[:HELD_OUT], pad)
    return Refreshed(before, after, len(rows), *cost.size_of(model, rows), skipped)


def fit(model: Any, rows: Sequence[Row], pad: int, learning_rate: float, seed: int) -> int:
    """One epoch over `rows` in batches of `ROWS`; returns how many steps were skipped."""
    order = list(rows)
    random.Random(seed).shuffle(order)
    batches = [order[k : k + ROWS] for k in range(0, len(order), ROWS)]
    parameters = list(projector_of(model).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    skipped = 0
    with torch.random.fork_rng():  # dropout, where there is any, is the same in every process
        torch.manual_seed(seed)
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate(step, len(batches))
            inputs: Any = {k: v.to(model.device) for k, v in right_padded(batch, pad).items()}
            count = (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
            (next_token_loss(model, **inputs) / count).backward()
            if bool(torch.nn.utils.clip_grad_norm_(parameters, CLIP).isfinite()):
                optimizer.step()
            else:
                skipped += 1
            optimizer.zero_grad(set_to_none=True)
    return skipped


def rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to `LEAST_RATE`."""
    rising = math.ceil(WARM_UP * steps)
    cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - rising) / max(1, steps - rising)))
    return min(1.0, (step + 1) / rising) * (LEAST_RATE + (1 - LEAST_RATE) * cosine)
