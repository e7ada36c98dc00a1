"""What decodings share: a plain model made to take latent steps for a time, and what it would say."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from litereason.config import LatentConfig
from litereason.losses import head
from litereason.model import attach, backbone, causal_lm, detach, has_latents

# More arguments for `generate`, made anew for every batch: logits processors may keep a state.
Arguments = Callable[[], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding(abc.ABC):
    """A way to decode; subclasses are dataclasses whose fields are the options."""

    @abc.abstractmethod
    def __call__(
        self, model: Any, tokenizer: Any, temperature: float
    ) -> contextlib.AbstractContextManager[Arguments]:
        """Within the context, `model.generate(..., **arguments())` decodes so.

        At its end the model is as it was.

        Args:
            model: a causal LM, with or without latent steps.
            tokenizer: its tokenizer.
            temperature: that of sampling; 0 is greedy, and probabilities are then taken at 1.
        """


@contextlib.contextmanager
def latent_steps(model: Any, tokenizer: Any) -> Iterator[bool]:
    """Within it, a plain model has latent steps; yields whether it had them before.

    They bring the cache's layer of last hidden states, and the latent id for the record.
    """
    had = has_latents(model)
    if not had:
        attach(model, tokenizer, LatentConfig(projector="identity"))
    try:
        yield had
    finally:
        if not had:
            detach(model)


def probabilities(model: Any, states: Tensor, temperature: float) -> Tensor:
    """Next-token probabilities `(..., vocab)` after last hidden states `(..., hidden_size)`.

    In float32 or better; the latent id is outside the softmax, as in sampling.
    """
    inner = causal_lm(model)
    logits = head(inner, states)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    banned = torch.tensor([backbone(inner).latent_token_id], device=logits.device)
    return (logits / temperature).index_fill(-1, banned, -torch.inf).softmax(-1)


def entropy(chances: Tensor) -> Tensor:
    """Entropy in nats of distributions `(..., n)` -> `(...)`."""
    return torch.special.entr(chances).sum(-1)
