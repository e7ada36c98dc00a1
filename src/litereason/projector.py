"""Reasoning Projectors: what turns the last hidden state into the input of a latent step.

A projector maps hidden states `(..., hidden_size)` to input embeddings of the same shape. It is
built from the model it will serve and knows nothing of batches, caches or tags. A new variant is one
class and one line in `PROJECTORS`.

A latent stands where `inputs_embeds` stand. So in models whose embedding module multiplies its
output (Gemma), a latent is on the scale of the product; in models that multiply what comes in
(Granite), a latent is multiplied as an embedding is.
"""

import abc
import copy
import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from litereason.errors import ConfigError, ModelError

SAMPLE = 4096  # token embeddings that starting values are read from
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")


class Projector(nn.Module, abc.ABC):
    """Hidden state `(..., hidden_size)` -> input embedding `(..., hidden_size)`.

    Attributes:
        reads_hidden: False if the hidden state changes nothing: a whole text then takes one pass.
    """

    reads_hidden: ClassVar[bool] = True

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__()

    @abc.abstractmethod
    def forward(self, hidden: Tensor) -> Tensor: ...

    def guess(self, hidden: Tensor) -> Tensor:
        """What a step is taken to stand for, `(..., hidden_size)`: the latent itself (`distil.py`)."""
        return self(hidden)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        """Set the starting values from the model's own weights (called by `attach`, not by `load`)."""

    def parameter_count(self) -> int:
        """How many parameters it adds to the model."""
        return sum(p.numel() for p in self.parameters())


class MLPProjector(Projector):
    """The paper's: a stack of MLPs, each a copy of the last block's, no residual, no norm."""

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        mlp = last_mlp(model)
        make = (lambda: copy.deepcopy(mlp)) if mlp is not None else (lambda: SwiGLU(model))
        self.layers = nn.ModuleList(make() for _ in range(depth))
        self.layers.requires_grad_(True)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        mlp = last_mlp(model)
        for layer in self.layers:
            if mlp is not None:
                layer.load_state_dict(mlp.state_dict())
            else:
                layer.start_from(model)  # pyright: ignore[reportCallIssue]


class ResidualProjector(MLPProjector):
    """The paper's stack with a residual around every MLP: at the start, near the hidden state."""

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return hidden


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
        self.scale.copy_(embedding_sample(model).pow(2).mean().sqrt())


class IdentityProjector(Projector):
    """The last hidden state itself, nothing to train but the policy (COCONUT, arXiv 2412.06769)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


class PauseProjector(Projector):
    """Control: one trained embedding for every latent step, whatever the model was thinking.

    A method whose latents carry information must beat it (arXiv 2310.02226 calls it a pause token).
    """

    reads_hidden = False

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        self.embedding = nn.Parameter(
            model.get_input_embeddings().weight.new_zeros(hidden_size(model))
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.embedding.to(hidden.dtype).expand_as(hidden)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        self.embedding.copy_(embedding_sample(model).mean(0))


class ToldPauseProjector(PauseProjector):
    """Control for distilled thoughts: a pause whose steps are told their words as well (`distil.py`).

    One trained embedding stands in every slot. A head, used in training alone, guesses each step's words
    from the hidden state before it: the policy is taught the same, but no result is fed back.
    """

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        self.head = RMSProjector(model, depth)

    def guess(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        super().start_from(model)
        self.head.start_from(model)


class ColarProjector(Projector):
    """CoLaR's latent head: a Gaussian of the next compressed embedding (arXiv 2505.16552, 3.2).

    An MLP of `depth` layers from the normalised hidden state to mean and log standard deviation, one of
    each a dimension, in units of the token embeddings' standard deviation. Before training it says what
    is true of all token embeddings together. What it is trained on is in `baselines/colar_sft.py`.

    Attributes:
        noise: standard deviations that a latent is drawn with: 0 gives the mean, 1 a sample.
        normal: standard normal numbers of the next draw, `(..., hidden_size)`; None: torch's generator.
    """

    LOG_STD = (-5.0, 2.0)  # bounds: a density may not grow without limit where a token is certain

    def __init__(self, model: Any, depth: int) -> None:
        super().__init__(model, depth)
        width, like = hidden_size(model), model.get_input_embeddings().weight
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self.layers = nn.ModuleList(nn.Linear(width, width, **options) for _ in range(depth))
        self.out = nn.Linear(width, 2 * width, **options)
        self.scale: Tensor
        self.register_buffer("scale", like.new_ones(()))
        self.noise = 0.0
        self.normal: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        mean, log_std = self.gaussian(hidden)
        if self.noise:
            normal = torch.randn_like(mean) if self.normal is None else self.normal.to(mean)
            mean = mean + self.noise * log_std.exp() * normal
        return self.scale.to(mean.dtype) * mean

    def gaussian(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log standard deviation), each `(..., hidden_size)`, in units of `scale`."""
        hidden = rms_norm(hidden)
        for layer in self.layers:
            hidden = functional.gelu(layer(hidden))
        mean, log_std = self.out(hidden).chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD)

    def log_density(self, hidden: Tensor, latents: Tensor) -> Tensor:
        """Log-density of `latents` `(..., hidden_size)`, mean over dimensions: `(...)`.

        In units of `scale`: in those of the embeddings, a constant is added.
        """
        mean, log_std = self.gaussian(hidden)
        off = (latents.to(mean.dtype) / self.scale.to(mean.dtype) - mean) * (-log_std).exp()
        return (-0.5 * off.pow(2) - log_std - 0.5 * math.log(2 * math.pi)).mean(-1)

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        sample = embedding_sample(model)
        self.scale.copy_(sample.std())
        self.out.weight.zero_()
        self.out.bias.zero_()
        self.out.bias[: sample.shape[-1]] = sample.mean(0) / self.scale


PROJECTORS: dict[str, type[Projector]] = {
    "mlp": MLPProjector,
    "residual": ResidualProjector,
    "rms": RMSProjector,
    "identity": IdentityProjector,
    "pause": PauseProjector,
    "pause-told": ToldPauseProjector,
    "colar": ColarProjector,
}


def build_projector(kind: str, model: Any, depth: int) -> Projector:
    """The projector named `kind` for `model`, without starting values.

    Raises:
        ConfigError: no projector has that name.
        ModelError: the model's input embeddings and last hidden states have different widths.
    """
    if kind not in PROJECTORS:
        raise ConfigError(f"unknown projector {kind!r}; expected one of {sorted(PROJECTORS)}")
    width = model.get_input_embeddings().weight.shape[-1]
    if width != hidden_size(model):
        raise ModelError(
            f"{type(model).__name__} embeds tokens in {width} dimensions but ends in "
            f"{hidden_size(model)}; a latent step needs the same width in and out"
        )
    return PROJECTORS[kind](model, depth)


class SwiGLU(nn.Module):
    """Llama's MLP built from the config, for models without a plain MLP to copy (arXiv 2512.02240).

    Starts small and random, as the model's own layers did.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config, width = model.config.get_text_config(), hidden_size(model)
        inner = next((v for name in WIDTHS if (v := getattr(config, name, None))), 4 * width)
        like = model.get_input_embeddings().weight
        options: dict[str, Any] = {"bias": False, "dtype": like.dtype, "device": like.device}
        self.gate_proj = nn.Linear(width, inner, **options)
        self.up_proj = nn.Linear(width, inner, **options)
        self.down_proj = nn.Linear(inner, width, **options)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))

    @torch.no_grad()
    def start_from(self, model: Any) -> None:
        """Normal with the model's own standard deviation."""
        spread = getattr(model.config.get_text_config(), "initializer_range", None) or 0.02
        for parameter in self.parameters():
            parameter.normal_(std=spread)


def rms_norm(x: Tensor) -> Tensor:
    """Scale-free RMS normalisation over the last dimension, computed in float32 or better."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def hidden_size(model: Any) -> int:
    """Width of the last hidden state."""
    return model.config.get_text_config().hidden_size


@torch.no_grad()
def embedding_sample(model: Any) -> Tensor:
    """Token embeddings as the first block gets them, evenly spaced ids, `(<= SAMPLE, width)`."""
    embedding = model.get_input_embeddings()
    rows = len(embedding.weight)
    ids = torch.arange(0, rows, max(1, rows // SAMPLE), device=embedding.weight.device)
    found = embedding(ids)
    return found if found.dtype == torch.float64 else found.float()


def last_mlp(model: Any) -> nn.Module | None:
    """The last transformer block's MLP; None if there is none that maps a state to a state.

    A mixture of experts is none: three copies of all experts would outweigh the model.
    """
    block = last_block(model)
    mlp = getattr(block, "mlp", None)
    if mlp is None or hasattr(mlp, "experts") or any(p.dim() > 2 for p in mlp.parameters()):
        return None
    weight = next(itertools.chain(mlp.parameters(), [None]))
    if weight is None or not weight.is_floating_point():
        return None
    state = weight.new_zeros(1, hidden_size(model))
    try:
        with torch.no_grad():
            output = mlp(state)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ):  # takes more than a state (BLOOM), or 3 dimensions
        return None
    return mlp if isinstance(output, Tensor) and output.shape == state.shape else None


def last_block(model: Any) -> nn.Module | None:
    """The last transformer block: the end of the first list with one module per layer."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return module[-1]
    return None


def check_not_quantized(model: Any, projector: str) -> None:
    """Raise `ModelError` if the projector would be copied from quantized weights."""
    method = getattr(model, "quantization_method", None)
    if method is not None and projector not in ("identity", "pause"):
        raise ModelError(
            f"the model is quantized ({method}), so its MLP cannot be copied and trained as projector "
            f"{projector!r}. Load it unquantized, attach, train and save; or use projector='pause' or "
            "'identity', which copy nothing"
        )
