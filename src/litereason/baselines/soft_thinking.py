"""Soft Thinking (arXiv 2505.15778): the model thinks in means of token embeddings, then answers in words.

Training-free. While a completion thinks, its next input is sum_i p_i e_i over the k most probable tokens,
renormalised. These inputs are latent steps with a projector that has no parameters, so the record holds
the latent id in their place. Thinking begins with the completion and ends

- when the most probable token would end it: that token is written;
- by the cold stop: the entropy was below `tau` for `patience` steps in a row;
- after `max_steps`.

Then sampling goes on as usual; tags are plain text. Where thinking was cut short (the last two), the text
`closing` is written first.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList

from litereason.baselines.base import Arguments, Decoding, entropy, latent_steps, probabilities
from litereason.errors import ConfigError
from litereason.generation import end_ids
from litereason.model import backbone, causal_lm

SPACE = " \n\tĠĊ▁"  # white space as tokens write it


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftThinking(Decoding):
    """Soft Thinking (arXiv 2505.15778, section 3); defaults of the authors' runs where they give one.

    Attributes:
        k: so many of the most probable tokens are mixed.
        min_p: of them, those with at least this share of the largest probability.
        ends: texts that end the thought, where the first token of one is the most probable (and
            the token that begins with one, where the tokenizer has such); the end of sequence always
            does.
        tau: entropy in nats below which a step is cold.
        patience: cold steps in a row that end the thought.
        closing: text that is written where the thought was cut short.
        max_steps: bound on the thought; None: none but that of the completion.
    """

    k: int = 15
    min_p: float = 0.001
    ends: tuple[str, ...] = ("</think>", "\\boxed{")
    tau: float = 0.01
    patience: int = 256
    closing: str = ""
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("k", "patience", "max_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p is {self.min_p}; expected 0 to 1")
        if not self.tau >= 0:
            raise ConfigError(f"tau is {self.tau}; expected 0 or more")
        if not all(text.strip() for text in self.ends):
            raise ConfigError(f"ends are {self.ends}; expected texts that are not blank")

    @contextlib.contextmanager
    def __call__(self, model: Any, tokenizer: Any, temperature: float) -> Iterator[Arguments]:
        with latent_steps(model, tokenizer):
            spine = backbone(model)
            own = spine.latent_projector
            ends = [*first_tokens(tokenizer, self.ends), *end_ids(model, tokenizer)]
            closing = tokenizer(self.closing, add_special_tokens=False)["input_ids"]
            think = (self, temperature or 1.0, spine.latent_token_id, ends, closing)
            spine.latent_projector = SoftProjector(model, self, temperature or 1.0)
            try:
                yield lambda: {
                    "latent": False,
                    "logits_processor": LogitsProcessorList([Think(*think)]),
                }
            finally:
                spine.latent_projector = own


class SoftProjector(nn.Module):
    """Hidden state `(..., hidden_size)` -> mean embedding of the most probable next tokens."""

    def __init__(self, model: Any, how: SoftThinking, temperature: float) -> None:
        super().__init__()
        self.around = (causal_lm(model),)  # in a tuple, because the model holds this module
        self.how, self.temperature = how, temperature

    def forward(self, hidden: Tensor) -> Tensor:
        (model,) = self.around
        chances = probabilities(model, hidden, self.temperature)
        best, ids = chances.topk(min(self.how.k, chances.shape[-1]))
        best = best.masked_fill(best < self.how.min_p * best[..., :1], 0.0)
        weights = best / best.sum(-1, keepdim=True)
        embeds = model.get_input_embeddings()(ids)
        return (weights[..., None].to(embeds.dtype) * embeds).sum(-2)


class Think(LogitsProcessor):
    """Forces the latent id while a row thinks, then what ends its thought. One a batch: keeps a state.

    Args:
        how: when a thought ends.
        temperature: of the entropy.
        latent: the latent id.
        ends: ids that end the thought.
        closing: ids that are written where it was cut short.
    """

    def __init__(
        self,
        how: SoftThinking,
        temperature: float,
        latent: int,
        ends: Sequence[int],
        closing: Sequence[int],
    ) -> None:
        self.how, self.temperature, self.latent = how, temperature, latent
        self.ends, self.closing = torch.tensor(ends), torch.tensor(closing, dtype=torch.long)
        self.steps = 0
        self.thinking: Any = None  # (batch,) bool
        self.cold: Any = None  # (batch,) cold steps in a row
        self.written: Any = None  # (batch,) tokens of `closing` that stand there

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.thinking is None:
            self._begin(scores)
        assert self.thinking is not None
        if not bool(self.thinking.any() | (self.written < len(self.closing)).any()):
            return scores
        best = scores.argmax(-1)
        ended = self.thinking & torch.isin(best, self.ends)
        cold = entropy((scores / self.temperature).softmax(-1)) < self.how.tau
        self.cold = torch.where(cold, self.cold + 1, 0)
        late = self.how.max_steps is not None and self.steps >= self.how.max_steps
        cut = self.thinking & ~ended & ((self.cold >= self.how.patience) | late)
        self.thinking = self.thinking & ~ended & ~cut
        self.steps += 1
        self.written[cut] = 0
        closes = self.written < len(self.closing)
        forced = torch.where(ended, best, -1)
        forced[self.thinking] = self.latent
        forced[closes] = self.closing[self.written[closes]]
        self.written[closes] += 1
        rows = (forced >= 0).nonzero()[:, 0]
        scores = scores.index_fill(0, rows, -torch.inf)
        scores[rows, forced[rows]] = 0.0
        return scores

    def _begin(self, scores: Tensor) -> None:
        self.ends, self.closing = self.ends.to(scores.device), self.closing.to(scores.device)
        self.thinking = scores.new_ones(len(scores), dtype=torch.bool)
        self.cold = scores.new_zeros(len(scores), dtype=torch.long)
        self.written = torch.full_like(self.cold, len(self.closing))


def first_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Ids that a text may begin with: its first token, and tokens that begin with all of it.

    White space before the text does not count; what the tokenizer does not know is left out.
    """
    found = {tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in texts}
    for token, number in tokenizer.get_vocab().items():
        if token.lstrip(SPACE).startswith(tuple(texts)):
            found.add(number)
    return sorted(found - {tokenizer.unk_token_id})
