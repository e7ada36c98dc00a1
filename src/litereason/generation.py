"""What `generate` needs to take latent steps, and the record of a finished completion.

Two logits processors make any decoding method honour tags: the latent id is banned everywhere, and
forced while a thought still owes steps. Both read only the ids, so they survive beams, resuming and
multi-turn use.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from litereason.tags import Tags


class BanLatent(LogitsProcessor):
    """The latent id cannot be sampled: it is outside the softmax.

    Args:
        tags: the model's.
        normalise: scores come as log-probabilities, which beams add up: they stay such.
    """

    def __init__(self, tags: Tags, normalise: bool = False) -> None:
        self.tags = tags
        self.normalise = normalise

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        scores = scores.clone()
        scores[:, self.tags.latent_token_id] = -torch.inf
        return scores.log_softmax(-1) if self.normalise else scores


class ForceLatent(LogitsProcessor):
    """While a row owes latent steps, its next id is the latent one, with log-probability 0.

    Args:
        tags: the model's.
        max_thoughts: tags after so many thoughts are plain text; None: no bound.
        start: length of the prompt, whose thoughts do not count.
    """

    def __init__(self, tags: Tags, max_thoughts: int | None = None, start: int = 0) -> None:
        self.tags = tags
        self.max_thoughts = max_thoughts
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        owing = self.tags.pending_rows(input_ids) > 0
        if self.max_thoughts is not None and owing.any():
            owing &= self._may_think(input_ids, self.max_thoughts)
        if owing.any():
            scores = scores.masked_fill(owing[:, None], -torch.inf)
            scores[owing, self.tags.latent_token_id] = 0.0
        return scores

    def _may_think(self, input_ids: Tensor, most: int) -> Tensor:
        """Rows `(batch,)` that are in a thought that was begun, or may begin another."""
        latent = input_ids == self.tags.latent_token_id
        begun = (latent[:, 1:] & ~latent[:, :-1])[:, max(0, self.start - 1) :].sum(1)
        return latent[:, -1] | (begun < most)


def latent_processors(
    tags: Tags,
    others: Any = None,
    latent: bool = True,
    max_thoughts: int | None = None,
    start: int = 0,
    beams: bool = False,
) -> LogitsProcessorList:
    """The caller's processors between the ban, which they must respect, and the force.

    With `latent=False` nothing is forced: tags are plain text. The rest as for `ForceLatent`.
    """
    force = [ForceLatent(tags, max_thoughts, start)] if latent else []
    return LogitsProcessorList([BanLatent(tags, beams), *(others or []), *force])


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end a completion."""
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return ends + [i for i in [tokenizer.eos_token_id] if i is not None and i not in ends]


@dataclasses.dataclass(frozen=True)
class Span:
    """A stretch of a completion: `discrete` text, a `tag`, or a run of `latent` steps."""

    kind: str
    ids: tuple[int, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class Completion:
    """One finished completion, as ids, text and spans.

    Attributes:
        ids: all positions after the prompt, latent slots included, end-of-sequence cut off.
        spans: the same as stretches, in order.
        truncated: it stopped for length, not by itself.
    """

    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    truncated: bool

    @property
    def text(self) -> str:
        """What was written; latent steps leave no text."""
        return "".join(span.text for span in self.spans)

    @property
    def latent_steps(self) -> int:
        """Positions that were latent."""
        return sum(len(span.ids) for span in self.spans if span.kind == "latent")

    @property
    def discrete_tokens(self) -> int:
        """Positions that were sampled, tags included."""
        return len(self.ids) - self.latent_steps

    @property
    def thoughts(self) -> int:
        """Runs of latent steps."""
        return sum(span.kind == "latent" for span in self.spans)


def read_completion(
    ids: Sequence[int], tokenizer: Any, tags: Tags | None = None, end_ids: Sequence[int] = ()
) -> Completion:
    """Cut generated ids at the first end token and into spans.

    Args:
        ids: positions after the prompt, shape `(length,)`, padding at the end allowed.
        tokenizer: decodes the discrete spans, special tokens left out.
        tags: of a model with latent steps; without it everything is discrete.
        end_ids: end-of-sequence (and padding) ids.
    """
    ends = set(end_ids)
    ids = [int(i) for i in ids]
    stop = next((k for k, token in enumerate(ids) if token in ends), len(ids))
    kept = ids[:stop]
    spans: list[Span] = []
    written: list[int] = []
    text = ""

    def close(kind: str, start: int, end: int) -> None:
        nonlocal text
        if end <= start:
            return
        before = text
        if kind != "latent":
            # What a span adds to the text before it: decoded alone, it could lose its first space.
            written.extend(kept[start:end])
            text = tokenizer.decode(
                written, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        spans.append(Span(kind, tuple(kept[start:end]), text[len(before) :]))

    start = 0
    for k, token in enumerate(kept):
        if tags is None or token != tags.latent_token_id:
            if k and tags is not None and kept[k - 1] == tags.latent_token_id:
                close("latent", start, k)
                start = k
        elif kept[k - 1] != token or k == 0:
            tag = tags.start_of(kept[:k], start)
            close("discrete", start, tag)
            close("tag", tag, k)
            start = k
    last = "latent" if tags and kept and kept[-1] == tags.latent_token_id else "discrete"
    close(last, start, len(kept))
    return Completion(tuple(kept), tuple(spans), stop == len(ids))
