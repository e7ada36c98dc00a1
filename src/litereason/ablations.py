"""Latents replaced at evaluation: do they carry anything? (arXiv 2512.02240)

A drop when latents are zeroed only shows that the policy lost its format. Read it beside `other_row`,
which keeps the format and the distribution and changes whose thought it is, and beside an arm that was
trained with a `pause` embedding.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from litereason import stats
from litereason.errors import ConfigError, ModelError
from litereason.model import backbone, has_latents
from litereason.projector import build_projector

POOL = 512  # latents of other rows that `OtherRow` draws from


class Zeros(nn.Module):
    """Nothing at all."""

    reads_hidden = False

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.zeros_like(hidden)


class Noise(nn.Module):
    """Gaussian noise with each latent's own norm."""

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, hidden: Tensor) -> Tensor:
        latent = self.projector(hidden)
        noise = torch.randn_like(latent)
        return noise * (latent.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))


class OtherRow(nn.Module):
    """The latent of another thought: drawn from the last `POOL` ones of all rows.

    In batches of many rows hardly any is the row's own; in a batch of one, earlier ones of its own may be.
    """

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self.projector = projector
        self.pool: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        latent = self.projector(hidden)
        flat = latent.reshape(-1, latent.shape[-1])
        if self.pool is None:
            replaced = flat.roll(1, 0)
        else:
            replaced = self.pool[torch.randint(len(self.pool), (len(flat),), device=flat.device)]
        seen = flat.detach()
        self.pool = (seen if self.pool is None else torch.cat([self.pool, seen]))[-POOL:]
        return replaced.view_as(latent)


ABLATIONS: dict[str, Any] = {"zeros": Zeros, "noise": Noise, "other_row": OtherRow}


def check_ablation(name: str | None) -> None:
    """Raise `ConfigError` unless `name` is None or an ablation."""
    if name is not None and name not in (*ABLATIONS, "init"):
        raise ConfigError(
            f"unknown ablation {name!r}; expected one of {sorted([*ABLATIONS, 'init'])}"
        )


@contextlib.contextmanager
def ablated(model: Any, name: str | None) -> Iterator[None]:
    """Within it, the model's latents are replaced; `init` is the projector before any training.

    Raises:
        ConfigError: no such ablation.
        ModelError: the model has no latent steps.
    """
    check_ablation(name)
    if name is None:
        yield
        return
    if not has_latents(model):
        raise ModelError(f"ablation {name!r} needs a model with latent steps")
    spine = backbone(model)
    projector = spine.latent_projector
    if name == "init":
        config = model.latent_config
        changed: nn.Module = build_projector(config.projector, model, config.depth)
        changed.start_from(model)  # pyright: ignore[reportCallIssue]
        changed = changed.to(model.device)
    else:
        changed = ABLATIONS[name](projector)
    spine.latent_projector = changed
    try:
        yield
    finally:
        spine.latent_projector = projector


def held_out_losses(model: Any, rows: list[dict[str, list[int]]], pad: int) -> dict[str, Any]:
    """Loss after tags with the model's own latents and with each control, and the differences.

    Rows whose loss is not finite under a control are counted and left out of its figures.

    Returns:
        {"latents": nats a token, "rows": n, control: {"loss", "latents", "not_finite", "difference",
        "low", "high", "p", "items"}}; the differences are control - latents, paired by row, with 95 %
        intervals, and a control's "latents" is the model's own loss on the same rows.
    """
    from litereason.sft import row_losses

    def losses(name: str | None) -> np.ndarray:
        with torch.random.fork_rng(), ablated(model, name):
            torch.manual_seed(0)
            return np.array(row_losses(model, rows, pad))  # (rows, 2): summed loss, labels

    def mean(found: np.ndarray) -> float:
        return float(found[:, 0].sum() / found[:, 1].sum())

    own = losses(None)
    result: dict[str, Any] = {"latents": mean(own), "rows": len(rows)}
    for name in ("zeros", "noise", "init", "other_row"):
        other = losses(name)
        good = np.isfinite(other[:, 0]) & np.isfinite(own[:, 0])
        result[name] = {"not_finite": int((~good).sum())}
        if good.any():
            a, b = other[good], own[good]
            difference = stats.paired(a[:, 0] / a[:, 1], b[:, 0] / b[:, 1])
            result[name] |= {"loss": mean(a), "latents": mean(b), **difference}
    return result
