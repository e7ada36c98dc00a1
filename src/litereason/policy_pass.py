"""The states that predict a batch of completions, each prompt computed once.

In RL many completions share a prompt, and on narrative tasks the prompt is nearly all of the text. Its
keys and values are computed once, repeated for the completions, and gradients flow back through them:
exact, whatever the rows' order, for groups whole or split over batches. Latents are constants here:
those that the rollout kept are put back, or they are found again.
"""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from litereason import latent_forward
from litereason.fill_plan import plan
from litereason.model import backbone, constant_latents, has_latents


def completion_states(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    keep: int,
    latents: Sequence[Tensor] | None = None,
) -> Tensor:
    """States that predict the last `keep` ids, `(batch, keep, hidden_size)`.

    Args:
        input_ids, attention_mask: `(batch, length)`: prompts padded on the left, completions of `keep`
            positions padded on the right.
        latents: of every row, what stands at the slots of its completion, `(steps, hidden_size)`; without
            them they are found with the model as it is now.
    """
    spine = backbone(model)
    start = input_ids.shape[1] - keep
    ids, mask = input_ids[:, :start], attention_mask[:, :start]
    if not _can_share(model, ids):
        with constant_latents(model):
            output = spine(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return output.last_hidden_state[:, -keep - 1 : -1]
    first, group = distinct(ids, mask)
    blank = int((mask[first] == 0).long().cumprod(1).sum(1).min())  # columns of padding only
    ids, mask = ids[:, blank:], attention_mask[:, blank:]
    past = ids.shape[1]
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    prefix = spine(
        input_ids=ids[first],
        attention_mask=mask[first][:, :past],
        position_ids=positions[first][:, :past],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    last = prefix[:, -1:][group]
    cache.batch_select_indices(group)
    new = input_ids[:, start:]
    embeds = latent_forward.embed(spine, new)
    if has_latents(model):
        latent = (new == spine.latent_token_id) & (mask[:, past:] == 1)
        if latents is not None:
            embeds = _put_back(embeds, latent, latents)
        elif bool(latent.any()):
            with torch.no_grad():
                found = _fill_after(spine, embeds, latent, mask, positions, cache, last)
            embeds = torch.where(latent[..., None], found, embeds)
    hidden = spine(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions[:, past:],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([last, hidden[:, :-1]], 1)


def distinct(ids: Tensor, mask: Tensor) -> tuple[list[int], Tensor]:
    """(a row of each distinct prompt, of every row which prompt it has) of padded ids `(batch, length)`."""
    _, group = torch.unique(torch.cat([ids, mask], 1), dim=0, return_inverse=True)
    return [int((group == k).nonzero()[0, 0]) for k in range(int(group.max()) + 1)], group


def _put_back(embeds: Tensor, latent: Tensor, latents: Sequence[Tensor]) -> Tensor:
    """`embeds` `(batch, keep, width)` with each row's kept latents at its slots `latent`."""
    counts = [len(row) for row in latents]
    if counts != latent.sum(1).tolist():
        raise AssertionError(f"kept latents {counts}, slots {latent.sum(1).tolist()}")
    kept = torch.cat([row.to(embeds) for row in latents])
    return embeds.masked_scatter(latent[..., None], kept)


def _can_share(model: Any, prompts: Tensor) -> bool:
    """Whether prompts can go through the cache with gradients."""
    spine = backbone(model)
    if getattr(spine, "gradient_checkpointing", False) and model.training:
        return False  # it drops the cache
    return not (has_latents(model) and bool((prompts == spine.latent_token_id).any()))


def _fill_after(
    spine: Any,
    embeds: Tensor,
    latent: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: Cache,
    last: Tensor,
) -> Tensor:
    """`embeds` of completions `(batch, keep, width)` with the latents at `latent` put in."""
    past = mask.shape[1] - embeds.shape[1]
    columns, stretches = [], []
    for row in latent:
        cuts = [0, *row.nonzero()[:, 0].tolist()]
        columns.append(cuts)
        stretches.append([b - a for a, b in itertools.pairwise(cuts) if b > a])
    aligned = latent_forward.has_sliding_window(spine)
    hidden = torch.zeros_like(embeds)
    for rows, passes in plan(stretches, embeds.device.type, aligned):
        if not passes:
            continue
        chosen = torch.tensor(rows, device=embeds.device)
        hidden[chosen], _ = latent_forward.fill_group(
            spine,
            spine,
            embeds[chosen],
            positions[chosen][:, past:],
            [columns[i] for i in rows],
            passes,
            {},
            prefix=latent_forward.Prefix(
                rows_of(cache, chosen), mask[chosen][:, :past], last[chosen]
            ),
        )
    return latent_forward.put_latents(spine, embeds, latent, torch.cat([last, hidden[:, :-1]], 1))


def rows_of(cache: Cache, rows: Tensor | slice) -> Cache:
    """A copy of some rows of a cache, outside the graph; what is added to it, the cache does not get."""
    twin: Any = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in twin.layers]
    for layer in twin.layers:
        layer.keys, layer.values = layer.keys[rows].detach(), layer.values[rows].detach()
    return twin
