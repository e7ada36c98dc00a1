"""CoLaR: reasoning in compressed latents, as dense as the text asks for (arXiv 2505.16552).

A completion is `<think 5>`, latent steps, `</think>`, the answer. One latent step stands for so many
consecutive tokens of a written trace as the opening says. After each the LM head is asked: the end
marker's first token ends the thinking, any other token means one more step. Here: the wording and the
decoding. `colar_sft.py` trains it, `colar_rl.py` goes on with RL; the latent head is
`projector.ColarProjector`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from litereason.baselines.base import Arguments, Decoding
from litereason.errors import ConfigError, ModelError
from litereason.model import backbone, causal_lm, has_latents
from litereason.projector import ColarProjector

LARGEST = 5  # compression factors in training are 1 to 5 (the paper's)


@dataclasses.dataclass(frozen=True)
class Frame:
    """Ids of what stands around the latents of a completion.

    Attributes:
        opening: tells the compression factor.
        closing: the end marker; its first token is what ends the thinking.
    """

    opening: tuple[int, ...]
    closing: tuple[int, ...]

    def actions(self, ids: list[int], latent_id: int, max_steps: int) -> list[int]:
        """1 for each position of a completion that was drawn, 0 for each that was forced."""
        first = len(self.opening)
        steps = next((k for k, x in enumerate(ids[first:]) if x != latent_id), len(ids) - first)
        end = [int(steps < max_steps), *[0] * (len(self.closing) - 1)]
        mask = [0] * first + [1] * steps + end
        return [*mask, *[1] * len(ids)][: len(ids)]


class Think(LogitsProcessor):
    """Forces the opening, then latent steps until the LM head says the end marker, then the marker.

    Where a row thinks, all tokens but the marker's first are one choice, "go on": its score is that of
    the most probable of them (greedy), or of all of them together (sampled at `temperature`). Read off
    the ids alone but for where the completion begins, so one object serves one batch.

    Args:
        latent_id: id of the latent slots.
        max_steps: latent steps after which the marker is forced.
        temperature: that of sampling, applied afterwards; 0: greedy.
    """

    def __init__(self, frame: Frame, latent_id: int, max_steps: int, temperature: float) -> None:
        self.frame = frame
        self.latent_id = latent_id
        self.max_steps = max_steps
        self.temperature = temperature
        self.start: int | None = None  # length of the prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.start is None:
            self.start = input_ids.shape[1]
        new, first = input_ids[:, self.start :], len(self.frame.opening)
        everywhere = torch.ones(len(new), dtype=torch.bool, device=new.device)
        if new.shape[1] < first:
            return force(scores, everywhere, self.frame.opening[new.shape[1]])
        steps = (new[:, first:] == self.latent_id).sum(1)
        written = new.shape[1] - first - steps  # since the last latent step
        scores = torch.where((written == 0)[:, None], self._choice(scores), scores)
        for k, token in enumerate(self.frame.closing):
            due = written == k if k else (written == 0) & (steps >= self.max_steps)
            scores = force(scores, due, token)
        return scores

    def _choice(self, scores: Tensor) -> Tensor:
        """Scores of the end marker's first token and of going on, `(batch, vocab)`."""
        end, heat = self.frame.closing[0], self.temperature
        others = scores.clone()
        others[:, end] = -torch.inf
        choice = torch.full_like(scores, -torch.inf)
        choice[:, end] = scores[:, end]
        choice[:, self.latent_id] = heat * (others / heat).logsumexp(1) if heat else others.amax(1)
        return choice


def force(scores: Tensor, rows: Tensor, token: int) -> Tensor:
    """`scores` `(batch, vocab)` where `rows` `(batch,)` can only be `token`."""
    scores = scores.masked_fill(rows[:, None], -torch.inf)
    scores[rows, token] = 0.0
    return scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wording:
    """What is written around the latents; whoever trains a model and whoever uses it must agree.

    Attributes:
        opening: tells the compression factor, at `{r}`.
        closing: the end marker.
    """

    opening: str = "<think {r}>"
    closing: str = "</think>"

    def __post_init__(self) -> None:
        if "{r}" not in self.opening or not self.closing:
            raise ConfigError(
                f"opening is {self.opening!r}, closing {self.closing!r}; expected a text with {{r}} in it, "
                "where the compression factor goes, and a text that ends the thinking"
            )

    def frame(self, tokenizer: Any, r: int) -> Frame:
        """The wording, encoded, for the factor `r`.

        Raises:
            ModelError: the tokenizer cannot read it.
        """
        found = []
        for text in (self.opening.replace("{r}", str(r)), self.closing):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if not ids or tokenizer.unk_token_id in ids:
                raise ModelError(
                    f"the tokenizer cannot read {text!r}, which stands around compressed reasoning; name "
                    "another opening or closing"
                )
            found.append(tuple(ids))
        return Frame(*found)


def check_counts(options: Any, *names: str) -> None:
    """Raise `ConfigError` unless the attributes called `names` are at least 1."""
    for name in names:
        if (value := getattr(options, name)) < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colar(Wording, Decoding):
    """CoLaR's decoding: latent steps from the opening on, until the LM head ends them.

    Attributes:
        r: compression factor that the opening tells.
        noise: standard deviations that latents are drawn with; 0 takes the mean.
        max_steps: bound on the latent steps.
        opening, closing: see `Wording`.
    """

    r: int = LARGEST
    noise: float = 0.0
    max_steps: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "r", "max_steps")
        if not self.noise >= 0:
            raise ConfigError(f"noise is {self.noise}; expected 0 or more")

    @contextlib.contextmanager
    def __call__(self, model: Any, tokenizer: Any, temperature: float) -> Iterator[Arguments]:
        """As `Decoding`.

        Raises:
            ModelError: no latent head, or a tokenizer that cannot read the wording.
        """
        check_head(model)
        frame = self.frame(tokenizer, self.r)
        latent_id = causal_lm(model).latent_tags.latent_token_id

        def arguments() -> dict[str, Any]:
            think = Think(frame, latent_id, self.max_steps, temperature)
            return {"logits_processor": [think], "latent": False}  # tags are plain text

        with drawing(model, self.noise):
            yield arguments


@contextlib.contextmanager
def drawing(model: Any, noise: float) -> Iterator[None]:
    """Within it, the latent head's draws have so much noise."""
    # under an ablation or PEFT, the head is a part of what stands in its place
    heads = [m for m in backbone(model).modules() if isinstance(m, ColarProjector)]
    before = [(head, head.noise, head.normal) for head in heads]
    for head in heads:
        head.noise = noise
    try:
        yield
    finally:
        for head, was, normal in before:
            head.noise, head.normal = was, normal


def check_head(model: Any) -> None:
    """Raise `ModelError` unless the model has CoLaR's latent head."""
    found = causal_lm(model).latent_config.projector if has_latents(model) else None
    if found != "colar":
        raise ModelError(
            f"CoLaR needs a model with the projector 'colar'; this one has {found!r}. Train one with "
            "`litereason sft --method colar` from a model without latent steps"
        )
