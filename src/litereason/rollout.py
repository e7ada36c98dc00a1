"""Rollouts for RL: many completions of few prompts, each prompt computed once.

A decoding loop for `generate` (its `custom_generate` argument), so that every setting of `generate`
and every switch of latent steps means the same here: the distribution is that of plain `generate`. What
differs is the work. Prompts that rows share are computed once and their cache repeated; finished rows
leave the batch; padding on the left is dropped when no row needs it any more. And each completion has
random numbers of its own, so that it does not depend on what it shares a batch or a process with. The
latents that a completion was made with are kept beside its ids.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache

from litereason.cache import drop_columns, hidden_states_of, with_room
from litereason.model import backbone, has_latents
from litereason.policy_pass import distinct

# Finished rows leave when they are this share of the batch: leaving copies the cache of the others.
LEAVING = 0.25


class Rollout(NamedTuple):
    """One completion: `ids` with its end token, `latents` `(steps, hidden_size)` at its slots."""

    ids: list[int]
    latents: Tensor | None


def draws(seed: Sequence[int], rows: Sequence[int], length: int) -> Tensor:
    """Uniform numbers in [0, 1), `(len(rows), length)`: a row's depend on `seed` and its number only."""
    made = [np.random.default_rng([*seed, row]).random(length) for row in rows]
    return torch.from_numpy(np.array(made))


def roll_out(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    uniform: Tensor,
    at_once: int | None = None,
    in_step: bool = False,
    loop: "type[Loop] | None" = None,
    fresh: Callable[[], dict[str, Any]] = dict,
    **switches: Any,
) -> list[Rollout]:
    """A completion of every prompt, in order.

    Args:
        model: a causal LM, with or without latent steps.
        prompts: ids; a prompt that stands several times is computed once in each batch it is in.
        config: as for `generate`, with `max_new_tokens`, `eos_token_id` and `pad_token_id`.
        uniform: `(len(prompts), max_new_tokens)` numbers in [0, 1), see `draws`.
        at_once: completions that run together; None: all.
        in_step: run as many forwards as every other process does, because each forward needs them all
            (sharded weights); their prompts must be as many.
        loop: the decoding loop, if it is not `Loop`.
        fresh: more arguments of `generate`, made anew for all that run together (logits processors).
        switches: of latent steps, for a model that has them: `max_thoughts`, `max_latent_steps`.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), list(prompts[i])))
    size = at_once or len(order)
    done: dict[int, Rollout] = {}
    training = model.training
    model.eval()  # dropout would make a completion depend on its company
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        width = max(len(prompts[i]) for i in chosen)
        blanks = [width - len(prompts[i]) for i in chosen]
        pad = config.pad_token_id or 0
        rows = [[pad] * n + list(prompts[i]) for i, n in zip(chosen, blanks, strict=True)]
        mask = [[0] * n + [1] * (width - n) for n in blanks]
        decoding = (loop or Loop)(uniform[chosen].to(model.device), in_step)
        model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=config,
            custom_generate=decoding,
            **switches,
            **fresh(),
        )
        done |= {chosen[row]: rollout for row, rollout in decoding.done.items()}
    model.train(training)
    return [done[i] for i in range(len(prompts))]


class Loop:
    """The decoding loop; `done` holds finished completions by row."""

    def __init__(self, uniform: Tensor, in_step: bool) -> None:
        self.uniform = uniform
        self.in_step = in_step
        self.done: dict[int, Rollout] = {}

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Tensor:
        pad = generation_config.pad_token_id
        start, ids = input_ids.shape[1], input_ids
        mask = kwargs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        cache = prefilled(model, ids, mask)
        rows = torch.arange(len(ids), device=ids.device)
        ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        lengths = torch.zeros_like(rows)
        dropped, padded = 0, not bool(mask.all())  # columns that the cache no longer has
        while len(rows):
            if has_latents(model):
                thinking = ids[:, -1] == backbone(model).latent_token_id
                places = torch.full_like(rows, ids.shape[1] - start - 1)
                self.draw(model, rows[thinking], places[thinking])
            output = model(
                input_ids=ids[:, -1:],
                attention_mask=mask[:, dropped:] if padded else None,
                position_ids=(mask.sum(1) - 1)[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            scores = logits_processor(ids, output.logits[:, -1].float())
            step = ids.shape[1] - start
            token = pick(scores, self.uniform[rows, step])
            ids = torch.cat([ids, token.masked_fill(ended, pad or 0)[:, None]], 1)
            mask = torch.cat([mask, mask.new_ones(len(ids), 1)], 1)
            lengths += ~ended
            ended |= stopping_criteria(ids, None)
            count = int(ended.sum())
            over = count == len(rows)
            if self.in_step:
                over = all_processes(over, ids.device)
            if not over and (count in (0, len(rows)) or count < LEAVING * len(rows)):
                continue
            self._leave(
                model, ids[ended], lengths[ended], rows[ended], cache, ended, start, dropped
            )
            stay = (~ended).nonzero()[:, 0]
            rows, ids, mask, lengths = rows[stay], ids[stay], mask[stay], lengths[stay]
            ended = ended[stay]
            if not len(rows):
                break
            cache.batch_select_indices(stay)
            blank = int((mask == 0).long().cumprod(1).sum(1).min())
            if blank > dropped and drop_columns(cache, blank - dropped):
                dropped = blank  # ids keep theirs, by which processors and criteria count
            padded = not bool(mask[:, dropped:].all())
        return input_ids  # what `generate` returns is not looked at: completions are in `done`

    def draw(self, model: Any, rows: Tensor, places: Tensor) -> None:
        """Called before the projector makes latents: of which rows, at which positions of theirs `(n,)`.

        Here a latent depends on the state alone. A projector that draws is given its numbers here.
        """

    def _leave(
        self,
        model: Any,
        ids: Tensor,
        lengths: Tensor,
        rows: Tensor,
        cache: Any,
        ended: Tensor,
        start: int,
        dropped: int,
    ) -> None:
        """Take down finished rows, with the latents that stood at their slots."""
        thinks = has_latents(model)
        states = hidden_states_of(cache).keys[ended, 0] if thinks else None  # pyright: ignore[reportOptionalSubscript]
        for k, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            new = ids[k, start : start + length]
            latents = None
            if states is not None:
                spine = backbone(model)
                places = (new == spine.latent_token_id).nonzero()[:, 0]
                before = states[k, start - dropped - 1 + places]
                weight = next(spine.latent_projector.parameters(), before)
                self.draw(model, torch.full_like(places, row), places)
                latents = spine.latent_projector(before.to(weight.dtype)).to(before.dtype)
            self.done[row] = Rollout(new.tolist(), latents)


def all_processes(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds in every process."""
    votes = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN)
    return bool(votes)


def prefilled(model: Any, ids: Tensor, mask: Tensor) -> Any:
    """A cache of all positions of `ids` `(batch, length)` but the last, distinct prompts computed once."""
    cache = with_room(DynamicCache(config=model.config))
    if ids.shape[1] == 1:
        return cache
    first, group = distinct(ids, mask)
    before, seen = ids[first, :-1], mask[first, :-1]
    model(
        input_ids=before,
        attention_mask=seen,
        position_ids=(seen.long().cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(group)
    return cache


def pick(scores: Tensor, uniform: Tensor) -> Tensor:
    """One id of every row, drawn from softmax(`scores` `(batch, vocab)`) by inverting its distribution.

    Args:
        uniform: `(batch,)` in [0, 1).
    """
    odds = scores.softmax(-1, dtype=torch.float32 if scores.device.type == "mps" else torch.float64)
    sums = odds.cumsum(-1)
    target = uniform.to(sums)[:, None] * sums[:, -1:]
    found = torch.searchsorted(sums, target, right=True).clamp(max=scores.shape[-1] - 1)
    # rounding may point past the last possible token
    possible = odds.gather(1, found) > 0
    return torch.where(possible, found, odds.argmax(-1, keepdim=True))[:, 0]


def row_key(ids: Any) -> bytes:
    """A row's ids, padding left out, as a key."""
    return torch.as_tensor(ids, dtype=torch.long).cpu().numpy().tobytes()


def counts(ids: Sequence[int], latent_id: int | None) -> tuple[int, int, int]:
    """(positions, latent steps, thoughts) of a completion."""
    slots = [token == latent_id for token in ids]
    runs = sum(slot and not (k and slots[k - 1]) for k, slot in enumerate(slots))
    return len(ids), sum(slots), runs
