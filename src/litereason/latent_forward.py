"""A forward pass over ids that hold latent slots.

Each latent slot needs the last hidden state of the position before it, so the sequence is cut at the
slots and the pieces run one after the other over a KV cache. Two ways to cut:

- `columns`: at every column that has a slot in some row. Keeps the caller's cache and layout: used
  when there is a cache to keep (prefill, decoding, chunks).
- `fill`: per row, from slot to slot, in groups and passes that `fill_plan.py` finds cheapest; used when
  nobody needs the cache (training, scoring). Gradients flow through all steps.

With constant latents (policy gradients), `fill` runs without gradients to find the latents, and one
ordinary pass over the filled embeddings does the rest.
"""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from litereason.cache import hidden_states_of
from litereason.errors import LatentError
from litereason.fill_plan import Counts, Group, plan

# RMS norms square their input in float32: what is larger than this becomes infinite, then zero.
LARGEST = 1e15


class Prefix(NamedTuple):
    """What stands before the positions of a group: cache, mask `(batch, past)`, last state."""

    cache: Cache
    mask: Tensor
    last: Tensor | None = None


def run(model: Any, base: Callable[..., Any], ids: Tensor, latent: Tensor, kwargs: Any) -> Any:
    """Run the backbone's own forward `base` over `ids` `(batch, length)` with slots at `latent`.

    Raises:
        LatentError: a slot with nothing before it, or an option that cannot be right here.
    """
    cache = kwargs.pop("past_key_values", None)
    mask = kwargs.pop("attention_mask", None)
    positions = kwargs.pop("position_ids", None)
    use_cache = kwargs.pop("use_cache", None)
    kwargs.pop("inputs_embeds", None)  # callers pass it as None beside the ids
    past = cache.get_seq_length() if cache is not None else 0
    batch, length = ids.shape
    if mask is None:
        mask = ids.new_ones(batch, past + length)
    _check(model, latent, mask, past, kwargs)
    if positions is None:
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]
    positions = positions.expand(batch, -1)
    latent = latent & mask[:, past:].bool()
    use_cache = model.config.use_cache if use_cache is None else use_cache
    keep_cache = cache is not None or (use_cache and not torch.is_grad_enabled())
    if keep_cache:
        return columns(model, base, ids, latent, mask, positions, cache, kwargs)
    if not reads_hidden(model):
        embeds = embed(model, ids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and model.latent_gradients):
            latents = put_latents(model, embeds, latent, embeds)
        return base(
            inputs_embeds=torch.where(latent[..., None], latents, embeds),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            **kwargs,
        )
    if model.latent_gradients or not torch.is_grad_enabled():
        return fill(model, base, ids, latent, mask, positions, kwargs)
    with torch.no_grad():
        tails = not bool(latent.any())  # slots under padding only
        output = fill(model, base, ids, latent, mask, positions, kwargs, tails)
        latents = put_latents(model, embed(model, ids), latent, output.last_hidden_state.roll(1, 1))
    return base(
        inputs_embeds=torch.where(latent[..., None], latents, embed(model, ids)),
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        **kwargs,
    )


def columns(
    model: Any,
    base: Callable[..., Any],
    ids: Tensor,
    latent: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: Any,
    kwargs: dict[str, Any],
) -> Any:
    """One pass from each column that holds a slot in some row to the next such column."""
    cache = DynamicCache(config=model.config) if cache is None else cache
    past, length = cache.get_seq_length(), ids.shape[1]
    cuts = sorted({0, length, *latent.any(0).nonzero()[:, 0].tolist()})
    pieces = []
    for start, end in itertools.pairwise(cuts):
        embeds = embed(model, ids[:, start:end])
        if latent[:, start].any():
            state = hidden_states_of(cache).last()
            embeds = _put_first(model, embeds, latent[:, start], state)
        output = base(
            inputs_embeds=embeds,
            attention_mask=mask[:, : past + end],
            position_ids=positions[:, start:end],
            past_key_values=cache,
            use_cache=True,
            **kwargs,
        )
        hidden_states_of(cache).append(output.last_hidden_state)
        pieces.append(output.last_hidden_state)
    output.last_hidden_state = torch.cat(pieces, 1)
    return output


def fill(
    model: Any,
    base: Callable[..., Any],
    ids: Tensor,
    latent: Tensor,
    mask: Tensor,
    positions: Tensor,
    kwargs: dict[str, Any],
    tails: bool = True,
) -> Any:
    """Every row from slot to slot, in the groups and passes that cost least.

    Without `tails`, what follows a row's last slot is left out, and its states are zero.
    """
    for name, value in kwargs.items():
        if isinstance(value, Tensor):
            raise LatentError(
                f"{name} is a tensor, which cannot be cut at latent slots; leave it out"
            )
    firsts, stretches = _stretches(latent, mask)
    if not tails:
        stretches = [row[:-1] for row in stretches]
    groups = _plan(model, stretches, ids.device.type)
    embeds = embed(model, ids)
    hidden: list[Tensor] = []
    output: Any = None
    for rows, passes in groups:
        chosen = torch.tensor(rows, device=ids.device)
        found = embeds.new_zeros(len(rows), *embeds.shape[1:])
        if passes:
            columns = [list(itertools.accumulate(stretches[i], initial=firsts[i])) for i in rows]
            found, output = fill_group(
                model, base, embeds[chosen], positions[chosen], columns, passes, kwargs
            )
        hidden.append(found)
    back = torch.tensor([i for rows, _ in groups for i in rows], device=ids.device).argsort()
    output.last_hidden_state = torch.cat(hidden)[back]
    output.past_key_values = None
    return output


def micro_batches(model: Any, ids: Tensor, mask: Tensor, parallel: bool = False) -> list[list[int]]:
    """Rows of `ids` `(batch, length)` that are best run together, for losses that add up over rows.

    Run one after the other, forward and backward, they need less memory than all at once, in the same
    time or less: rows of like length have little padding.

    Args:
        parallel: what stands in the slots is known, so that every row takes one pass.
    """
    latent = ids == getattr(model, "latent_token_id", -1)
    latent &= reads_hidden(model) and not parallel
    return [rows for rows, _ in _plan(model, _stretches(latent, mask)[1], ids.device.type)]


def _plan(model: Any, stretches: list[list[int]], device: str) -> list[Group]:
    apart = torch.is_grad_enabled() and _is_frozen(model)
    layers = max(1, getattr(model.config.get_text_config(), "num_hidden_layers", None) or 1)
    inside = sum(p.numel() for p in model.parameters())
    inside -= model.get_input_embeddings().weight.numel()
    return plan(
        stretches,
        device,
        aligned=has_sliding_window(model),
        prefix_apart=apart,
        layer=max(1, inside) / layers,
    )


def fill_group(
    model: Any,
    base: Callable[..., Any],
    embeds: Tensor,
    positions: Tensor,
    columns: list[list[int]],
    passes: Counts,
    kwargs: dict[str, Any],
    prefix: Prefix | None = None,
) -> tuple[Tensor, Any]:
    """(last hidden states `(batch, length, width)`, last output) of rows that run together.

    Args:
        embeds: `(batch, length, width)`; what stands at slots is replaced.
        positions: `(batch, length)`.
        columns: of every row, where it starts, then its slots, then where it ends.
        passes: positions of every row in every pass.
        prefix: what stands before, if anything does.
    """
    batch, length, width = embeds.shape
    device = embeds.device
    cache, seen, state = prefix or Prefix(
        DynamicCache(config=model.config), torch.zeros(batch, 0, dtype=torch.long, device=device)
    )
    slots = [set(row[1:]) for row in columns]
    at = [row[0] for row in columns]
    places, pieces = [], []
    output: Any = None
    for counts in passes:
        taken = torch.tensor(counts, device=device)
        steps = torch.arange(max(counts), device=device)[None]
        real = steps < taken[:, None]
        source = (torch.tensor(at, device=device)[:, None] + steps).clamp(max=length - 1)
        piece = embeds.gather(1, source[..., None].expand(-1, -1, width))
        enters = [n > 0 and k in row for n, k, row in zip(counts, at, slots, strict=True)]
        if state is not None and any(enters):
            piece = _put_first(model, piece, torch.tensor(enters, device=device), state)
        seen = torch.cat([seen, real.long()], 1)
        output = base(
            inputs_embeds=piece,
            attention_mask=seen,
            position_ids=positions.gather(1, source),
            past_key_values=cache,
            use_cache=True,
            **kwargs,
        )
        hidden = output.last_hidden_state
        final = (taken - 1).clamp(min=0)[:, None, None].expand(-1, 1, width)
        newest = hidden.gather(1, final)
        state = newest if state is None else torch.where((taken > 0)[:, None, None], newest, state)
        places.append(torch.where(real, source, length))  # padding goes to a column cut off below
        pieces.append(hidden)
        at = [k + n for k, n in zip(at, counts, strict=True)]
    index = torch.cat(places, 1)[..., None].expand(-1, -1, width)
    hidden = torch.cat(pieces, 1)
    filled = hidden.new_zeros(batch, length + 1, width).scatter(1, index, hidden)
    return filled[:, :length], output


def reads_hidden(model: Any) -> bool:
    """Whether a latent depends on the hidden state before it, so that slots must be filled in turn."""
    return getattr(getattr(model, "latent_projector", None), "reads_hidden", True)


def embed(model: Any, ids: Tensor) -> Tensor:
    """Token embeddings, `(batch, length)` -> `(batch, length, hidden_size)`."""
    return model.get_input_embeddings()(ids)


def put_latents(model: Any, embeds: Tensor, where: Tensor, states: Tensor) -> Tensor:
    """`embeds` `(batch, length, width)` with P(states) at the positions `where` `(batch, length)`.

    The projector sees those positions only.
    """
    states, projector = states[where], model.latent_projector
    weight = next(projector.parameters(), states)  # float32 beside a bfloat16 base
    latents = projector(states.to(weight.dtype)).to(embeds.dtype)
    count_out_of_range(model, latents)
    return embeds.masked_scatter(where[..., None], latents)


def count_out_of_range(model: Any, latents: Tensor) -> None:
    """Count latents `(n, width)` that the first norm cannot take, and warn once; none is changed."""
    with torch.no_grad():
        bad = int((~(latents.abs().amax(-1) < LARGEST)).sum()) if len(latents) else 0
    if not bad:
        return
    if not model.latents_out_of_range:
        warnings.warn(
            f"{bad} of {len(latents)} latents are not finite or larger than {LARGEST:g}, which the "
            "model's norms turn into zeros: the projector leaves the range of this model's embeddings. "
            "Train it, or use projector='rms'",
            stacklevel=2,
        )
    model.latents_out_of_range += bad


def has_sliding_window(model: Any) -> bool:
    """Whether some layer counts positions in the cache, which padding between them would shift."""
    config = model.config.get_text_config()
    types = getattr(config, "layer_types", None) or []
    if any(kind != "full_attention" for kind in types):
        return True
    if "local" in (getattr(config, "attention_layers", None) or []):  # GPT-Neo
        return True
    return not types and getattr(config, "sliding_window", None) is not None


def _put_first(model: Any, embeds: Tensor, rows: Tensor, state: Tensor) -> Tensor:
    """Replace the first embedding of `rows` `(batch,)` by the latent that follows from `state`."""
    first = put_latents(model, embeds[:, :1], rows[:, None], state)
    return torch.cat([first, embeds[:, 1:]], 1)


def _stretches(latent: Tensor, mask: Tensor) -> tuple[list[int], list[list[int]]]:
    """Of every row, where it starts, and the lengths of its stretches between slots."""
    firsts, stretches = [], []
    real = mask.bool()
    for row, slots in zip(real, latent & real, strict=True):
        span = row.nonzero()[:, 0].tolist() or [0, len(row) - 1]  # all padding: nobody reads it
        cuts = [span[0], *slots.nonzero()[:, 0].tolist(), span[-1] + 1]
        firsts.append(cuts[0])
        stretches.append([end - start for start, end in itertools.pairwise(cuts)])
    return firsts, stretches


def _is_frozen(model: Any) -> bool:
    """Whether nothing but the projector trains."""
    return not any(
        p.requires_grad for n, p in model.named_parameters() if not n.startswith("latent_projector")
    )


def _check(model: Any, latent: Tensor, mask: Tensor, past: int, kwargs: dict[str, Any]) -> None:
    for option in ("output_hidden_states", "output_attentions", "output_router_logits"):
        if kwargs.get(option):
            raise LatentError(
                f"{option}=True was asked for a sequence with latent slots, which runs in several "
                "passes; ask for it without latent slots"
            )
    if getattr(model, "gradient_checkpointing", False) and model.training:
        raise LatentError(
            "gradient checkpointing is on, which drops the KV cache that latent slots need. Call "
            "model.gradient_checkpointing_disable(), or set gradient_checkpointing=False"
        )
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise LatentError("latent slots need a 2-dimensional attention_mask (batch, length)")
    before = torch.cat([mask.new_zeros(mask.shape[0], 1), mask[:, :-1]], 1)[:, past:]
    if bool((latent & (before == 0) & (mask[:, past:] != 0)).any()):
        raise LatentError(
            "a latent slot stands at the start of a sequence, where there is no thought to go on "
            "from; slots follow the tag that announces them"
        )
