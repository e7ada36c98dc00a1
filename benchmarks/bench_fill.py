"""Teacher forcing with thoughts, forward and backward to the projector, against a limit and a peer.

8 rows of 512 positions with 3 thoughts of 3 steps at random places, base frozen, loss on the text
after a row's first thought. The limit is one parallel pass over the same positions without thoughts,
with gradients to all its input embeddings (ours needs none before a row's first thought). The peer
forwards the whole prefix again for every latent step, one row at a time; it runs on one row only, the
first, whose time stands for an eighth of eight rows. What is left out: optimiser steps, mixed
precision, rows of several lengths.
"""

import random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness import as_rates, interleaved, plain_and_latent, report_pairs, text_ids
from litereason.losses import head, next_token_loss

ROWS, LENGTH, THOUGHTS, STEPS, FIRST = 8, 512, 3, 3, 48
UNIT = "rows per CPU s"


def with_thoughts(ids: Tensor, latent_id: int) -> Tensor:
    """`ids` with THOUGHTS runs of STEPS slots in every row, at random places from FIRST on."""
    chance = random.Random(0)
    ids = ids.clone()
    share = (LENGTH - FIRST) // THOUGHTS
    for row in range(ids.shape[0]):
        for k in range(THOUGHTS):
            start = FIRST + k * share + chance.randrange(share - STEPS)
            ids[row, start : start + STEPS] = latent_id
    return ids


def labels_of(ids: Tensor, latent_id: int) -> Tensor:
    """The text after each row's first thought; -100 elsewhere."""
    latent = ids == latent_id
    return ids.masked_fill(latent | (latent.cumsum(1) == 0), -100)


def loss_of(model, hidden: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `labels` `(batch, length)` given all last hidden states."""
    chosen = labels[:, 1:] != -100
    return functional.cross_entropy(head(model, hidden[:, :-1][chosen]), labels[:, 1:][chosen])


def naive_inputs(model, ids: Tensor) -> Tensor:
    """Input embeddings `(1, length, width)` of one row, a whole pass for every latent step."""
    tokens = model.get_input_embeddings()(ids)
    slots = (ids[0] == model.latent_config.latent_token_id).nonzero()[:, 0].tolist()
    inputs = tokens[:, : slots[0]]
    for slot, end in zip(slots, [*slots[1:], ids.shape[1]], strict=True):
        hidden = model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        latent = model.latent_projector(hidden[:, -1:])
        inputs = torch.cat([inputs, latent, tokens[:, slot + 1 : end]], 1)
    return inputs


def prepared() -> tuple[Any, Any, Tensor, Tensor, Tensor]:
    """Plain and latent model, frozen but for the projector; text, the same with slots, and labels."""
    plain, model, tokenizer = plain_and_latent()
    for module in (plain, model):
        module.requires_grad_(False)
    model.latent_projector.requires_grad_(True)
    text = text_ids(tokenizer, ROWS, LENGTH)
    latent_id = model.latent_config.latent_token_id
    ids = with_thoughts(text, latent_id)
    return plain, model, text, ids, labels_of(ids, latent_id)


def main() -> None:
    """Check that filling and the naive way agree, then measure."""
    plain, model, text, ids, labels = prepared()
    mask = torch.ones_like(ids)
    losses = {}

    def fill(rows: int = ROWS) -> None:
        total = next_token_loss(model, ids[:rows], mask[:rows], labels[:rows])
        losses["fill"] = total / int((labels[:rows, 1:] != -100).sum())
        losses["fill"].backward()

    def limit() -> None:
        inputs = plain.get_input_embeddings()(text).requires_grad_(True)
        hidden = plain.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        loss_of(plain, hidden, labels).backward()

    def naive() -> None:
        inputs = naive_inputs(model, ids[:1])
        hidden = model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        losses["naive"] = loss_of(model, hidden, labels[:1])
        losses["naive"].backward()

    fill(rows=1)
    naive()
    torch.testing.assert_close(losses["fill"], losses["naive"], rtol=1e-4, atol=1e-4)
    pairs = interleaved(fill, limit, 3)
    report_pairs("fill, to the limit", "one parallel pass", pairs, "<= 1.5")
    rates = as_rates(interleaved(fill, naive, 3, warm_up=0), ROWS, 1)
    report_pairs("fill, to the naive way", "prefix again a step", rates, ">= 4", UNIT)


if __name__ == "__main__":
    main()
