"""Reasoning Projectors: what turns the last hidden state into the input of a latent step.

A projector maps hidden states `(..., hidden_size)` to input embeddings of the same shape. It is
built from the model it will serve and knows nothing of batches, caches or tags. A new variant is one
class and one line in `PROJECTORS`.
"""

import abc
import copy
from typing import Any

import torch
from torch import Tensor, nn

from litereason.errors import ConfigError, ModelError


class Projector(nn.Module, abc.ABC):
    """Hidden state `(..., hidden_size)` -> input embedding `(..., hidden_size)`."""

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__()

    @abc.abstractmethod
    def forward(self, hidden: Tensor) -> Tensor: ...

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        """Set the starting values from the model's own weights (called by `attach`, not by `load`)."""


class MLPProjector(Projector):
    """The paper's: a stack of MLPs, each a copy of the last block's, no residual, no norm."""

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        self.layers = nn.ModuleList(copy.deepcopy(last_mlp(model)) for _ in range(depth))
        self.layers.requires_grad_(True)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        state = last_mlp(model).state_dict()
        for layer in self.layers:
            layer.load_state_dict(state)


class RMSProjector(MLPProjector):
    """Residual MLPs on normalised input, the output rescaled to the token embeddings' RMS.

    Keeps latents at the scale that the first block was trained on: on SmolLM2 the last hidden state's
    RMS is 14 times the embeddings'. One learned factor sets the scale.
    """

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        self.scale = nn.Parameter(model.get_input_embeddings().weight.new_ones(()))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = hidden + layer(rms_norm(hidden))
        return rms_norm(hidden) * self.scale.to(hidden.dtype)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        super().start_from(model)
        self.scale.copy_(model.get_input_embeddings().weight.float().pow(2).mean().sqrt())


class PauseProjector(Projector):
    """Control: one trained embedding for every latent step, whatever the model was thinking.

    A method whose latents carry information must beat it (arXiv 2310.02226 calls it a pause token).
    """

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        self.embedding = nn.Parameter(
            model.get_input_embeddings().weight.new_zeros(hidden_size(model))
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.embedding.to(hidden.dtype).expand_as(hidden)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        self.embedding.copy_(model.get_input_embeddings().weight.float().mean(0))


PROJECTORS: dict[str, type[Projector]] = {
    "mlp": MLPProjector,
    "rms": RMSProjector,
    "pause": PauseProjector,
}


def build_projector(kind: str, model: Any, depth: int) -> Projector:
    """The projector named `kind` for `model`, without starting values.

    Raises:
        ConfigError: no projector has that name.
    """
    if kind not in PROJECTORS:
        raise ConfigError(f"unknown projector {kind!r}; expected one of {sorted(PROJECTORS)}")
    return PROJECTORS[kind](model, depth)


def rms_norm(x: Tensor) -> Tensor:
    """Scale-free RMS normalisation over the last dimension, computed in float32 or better."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def hidden_size(model: Any) -> int:
    """Width of the last hidden state."""
    return model.config.get_text_config().hidden_size


def last_mlp(model: Any) -> nn.Module:
    """The MLP of the last transformer block: the last module called `mlp`.

    Raises:
        ModelError: the architecture has no such module.
    """
    width = hidden_size(model)
    mlps = [m for name, m in model.named_modules() if name.split(".")[-1] == "mlp"]
    if not mlps:
        raise ModelError(
            f"{type(model).__name__} has no module called 'mlp' to copy the projector from "
            f"(width {width}); choose LatentConfig(projector='pause')"
        )
    return mlps[-1]
