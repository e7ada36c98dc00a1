"""What a latent step is, as far as the model's own vocabulary can say.

For each latent step: what the LM head would have said there, which token embeddings the latent lies
nearest to, how large it is beside them; for a thought that stands for a known sentence, how probable
that sentence is after it, and how probable it was before.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from litereason.errors import LatentError
from litereason.losses import head
from litereason.model import backbone, causal_lm, has_latents
from litereason.projector import embedding_sample

Scored = tuple[str, float]
NO_LATENTS = "this model has no latent steps; attach them, or load a checkpoint with them"


@dataclasses.dataclass(frozen=True)
class LatentStep:
    """One latent step.

    Attributes:
        position: of its slot in the ids.
        thought, step: both from 0.
        says: the LM head's top tokens at this position, with probabilities (latent id left out).
        near: nearest token embeddings to the latent that went in, with cosines.
        norm: RMS of the latent over that of the token embeddings.
    """

    position: int
    thought: int
    step: int
    says: tuple[Scored, ...]
    near: tuple[Scored, ...]
    norm: float


@dataclasses.dataclass(frozen=True)
class Skipped:
    """How probable a skipped sentence is, in nats a token: the model may have thought it.

    Attributes:
        tokens: its length.
        before: mean log-probability where the tag stands instead of it.
        after: the same after the thought.
    """

    tokens: int
    before: float
    after: float


@torch.no_grad()
def inspect_latents(model: Any, ids: Sequence[int], top: int = 5) -> list[LatentStep]:
    """Every latent step in `ids` `(length,)`, slots in place.

    Raises:
        LatentError: the model has no latent steps, or a slot that no tag announces.
    """
    if not has_latents(model):
        raise LatentError(NO_LATENTS)
    lm = causal_lm(model)
    lm.latent_tags.check(ids, "the text")
    slots = [k for k, token in enumerate(ids) if int(token) == lm.latent_tags.latent_token_id]
    if not slots:
        return []
    hidden = _hidden(lm, ids)
    previous = hidden[[k - 1 for k in slots]]
    projector = lm.latent_projector
    weight = next(projector.parameters(), previous)
    latents = projector(previous.to(weight.dtype)).float()
    said = _log_probs(lm, hidden[slots]).exp()
    cosines = _cosines(lm, latents)
    scale = embedding_sample(lm).pow(2).mean().sqrt()
    norms = latents.pow(2).mean(-1).sqrt() / scale
    steps, thought, step = [], -1, 0
    for n, k in enumerate(slots):
        begins = not n or slots[n - 1] != k - 1
        thought, step = (thought + 1, 0) if begins else (thought, step + 1)
        says, near = _top(lm, said[n], top), _top(lm, cosines[n], top)
        steps.append(LatentStep(k, thought, step, says, near, float(norms[n])))
    return steps


@torch.no_grad()
def latent_lens(model: Any, ids: Sequence[int], start: int = 0, top: int = 5) -> list[list[Scored]]:
    """What the LM head would say at each latent step of `ids` `(length,)` from position `start` on.

    The latents are those of the projector in place. One that draws at random (`litereason.ablations`)
    draws anew; neither what it remembers nor torch's generator is moved, so that sampling goes on as
    if nobody had looked.

    Returns:
        One list a step: the `top` most probable tokens as text, with their probabilities.

    Raises:
        LatentError: as for `inspect_latents`.
    """
    with _unmoved(model):
        steps = inspect_latents(model, ids, top)
    return [list(step.says) for step in steps if step.position >= start]


@contextlib.contextmanager
def _unmoved(model: Any) -> Iterator[None]:
    """A copy of the projector in its place that shares its weights but not its memory."""
    spine = backbone(model)
    projector = spine.latent_projector
    spine.latent_projector = copy.copy(projector)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        spine.latent_projector = projector


@torch.no_grad()
def skipped_probability(model: Any, ids: Sequence[int], sentence: str) -> Skipped:
    """How probable `sentence` is before and after the thought that `ids` end with.

    Args:
        ids: `(length,)`, ending in a tag and its latent slots.
        sentence: what the thought stands for.

    Raises:
        LatentError: the model has no latent steps, or the ids do not end so.
    """
    if not has_latents(model):
        raise LatentError(NO_LATENTS)
    lm = causal_lm(model)
    tags, tokenizer = lm.latent_tags, lm.latent_tags.tokenizer
    ids = [int(i) for i in ids]
    end = len(ids)
    while end and ids[end - 1] == tags.latent_token_id:
        end -= 1
    least = 0  # a tag does not reach back over the thought before it
    if tags.latent_token_id in ids[:end]:
        least = end - ids[:end][::-1].index(tags.latent_token_id)
    start = tags.start_of(ids[:end], least)
    if end == len(ids) or start in (0, end) or not sentence.strip():
        raise LatentError(
            "expected ids that hold some text and end with a tag and its latent slots; and a sentence"
        )
    # The white space before the tag goes with the sentence, as it would have been written.
    space = tokenizer.decode(ids[start:end])
    space = space[: len(space) - len(space.lstrip())]
    while start > least + 1 and (one := tokenizer.decode(ids[start - 1 : start])).isspace():
        start, space = start - 1, one + space
    text = space + sentence.strip() if space else sentence.rstrip()
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    before, after = (float(_sequence(lm, context, wanted).mean()) for context in (ids[:start], ids))
    return Skipped(len(wanted), before, after)


def _hidden(lm: Any, ids: Sequence[int]) -> Tensor:
    """Last hidden states `(length, width)`."""
    batch = torch.tensor([list(ids)], device=lm.device)
    return backbone(lm)(input_ids=batch, use_cache=False).last_hidden_state[0]


def _log_probs(lm: Any, hidden: Tensor) -> Tensor:
    """`(n, vocab)`, the latent id outside the softmax."""
    logits = head(lm, hidden).float()
    logits[:, lm.latent_tags.latent_token_id] = -torch.inf
    return logits.log_softmax(-1)


def _sequence(lm: Any, context: list[int], wanted: list[int]) -> Tensor:
    """Log-probability of each token of `wanted` after `context`, `(tokens,)`."""
    hidden = _hidden(lm, context + wanted)[len(context) - 1 : -1]
    return _log_probs(lm, hidden).gather(1, torch.tensor(wanted, device=lm.device)[:, None])[:, 0]


def _cosines(lm: Any, latents: Tensor) -> Tensor:
    """Cosine of each latent `(n, width)` with each token embedding, `(n, vocab)`."""
    table = lm.get_input_embeddings().weight.float()
    cosines = functional.normalize(latents, dim=-1) @ functional.normalize(table, dim=-1).T
    cosines[:, lm.latent_tags.latent_token_id] = -1.0
    return cosines


def _top(lm: Any, scores: Tensor, count: int) -> tuple[Scored, ...]:
    """The highest scores with their tokens as text."""
    tags = lm.latent_tags
    known = scores[: len(tags.tokenizer)]
    best = known.topk(min(count + 1, len(known)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    found = [(tags.tokenizer.decode([i]), v) for i, v in pairs if i != tags.latent_token_id]
    return tuple(found[:count])
