"""Mixture of inputs (arXiv 2505.14827): the model reads what it might have said, not only what it said.

Training-free. The input of every generated token is a mean of all token embeddings,

    sum_i w_i e_i,   w_i = (H p_i + (beta + 1 - H) y_i) / (beta + 1),

with p the distribution that the token was sampled from, y one-hot at the token, and H the entropy of p
over its maximum: the surer the model was, the nearer to the plain embedding. The record stays the ids
that were sampled. What stands in the prompt was not sampled, and is read as it is.

Thoughts of a model with latent steps stay what they are; a model without any takes none.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from litereason import latent_forward
from litereason.baselines.base import Arguments, Decoding, entropy, latent_steps, probabilities
from litereason.cache import has_past, hidden_states_of
from litereason.errors import ConfigError
from litereason.model import backbone, causal_lm, with_latents


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureOfInputs(Decoding):
    """Mixture of inputs (arXiv 2505.14827, section 3).

    Attributes:
        beta: weight of the sampled token beside the distribution, 0 or more.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise ConfigError(f"beta is {self.beta}; expected 0 or more")

    @contextlib.contextmanager
    def __call__(self, model: Any, tokenizer: Any, temperature: float) -> Iterator[Arguments]:
        with latent_steps(model, tokenizer) as had:
            spine = backbone(model)
            kind = type(spine)
            spine.mixture = Mixture(model, self.beta, temperature or 1.0)
            spine.__class__ = with_latents(kind, MixingBackbone)
            try:
                yield lambda: {"latent": had}
            finally:
                spine.__class__ = kind
                del spine.mixture


class Mixture:
    """Inputs of sampled tokens.

    Args:
        model: a causal LM with latent steps.
        beta: weight of the sampled token.
        temperature: of the distribution that is mixed in, above 0.
    """

    def __init__(self, model: Any, beta: float, temperature: float) -> None:
        self.model, self.beta, self.temperature = causal_lm(model), beta, temperature
        embedding = self.model.get_input_embeddings()
        self.table = embedding.weight.detach()
        if type(embedding) is not nn.Embedding:  # may scale what it looks up
            with torch.no_grad():
                self.table = embedding(torch.arange(len(self.table), device=self.table.device))

    def __call__(self, ids: Tensor, states: Tensor) -> Tensor:
        """Inputs `(batch, 1, width)` of `ids` `(batch, 1)`, sampled after `states` `(batch, 1, width)`."""
        chances = probabilities(self.model, states, self.temperature)
        # the latent id is never drawn
        spread = (entropy(chances) / math.log(chances.shape[-1] - 1))[..., None]
        mean = chances.to(self.table.dtype) @ self.table[: chances.shape[-1]]
        spread = spread.to(mean.dtype)
        return (spread * mean + (self.beta + 1 - spread) * self.table[ids]) / (self.beta + 1)


class MixingBackbone:
    """Mixin over a backbone with latent steps: a generated token goes in as a mixture."""

    mixture: Mixture
    latent_token_id: int

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        base = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        cache: Any = kwargs.get("past_key_values")
        if input_ids is None or input_ids.shape[1] != 1 or not has_past(cache):
            return base(input_ids=input_ids, **kwargs)
        states = hidden_states_of(cache)
        embeds = self.mixture(input_ids, states.last())
        latent = input_ids == self.latent_token_id
        if bool(latent.any()):
            embeds = latent_forward.put_latents(self, embeds, latent, states.last())
        output = base(**{**kwargs, "inputs_embeds": embeds})
        states.append(output.last_hidden_state)
        return output
