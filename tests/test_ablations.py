"""Controls: each replaces latents as it says, and leaves the model as it found it."""

import pytest
import torch

from litereason.ablations import ablated
from litereason.checkpoints import load
from litereason.errors import ModelError
from litereason.model import backbone

IDS = torch.tensor([[1, 8, 38, 4, 4, 4, 9, 10], [1, 9, 38, 4, 4, 4, 11, 12]])


def latents_of(model) -> torch.Tensor:
    """What goes into the slots of `IDS`, `(rows, steps, width)`."""
    seen = []
    hook = model.base_model.latent_projector.register_forward_hook(
        lambda module, args, output: seen.append(output.detach().clone())
    )
    with torch.no_grad():
        model(IDS, use_cache=False)
    hook.remove()
    return torch.stack(seen, 1)


def test_zeros_noise_and_init(latent_llama):
    with torch.no_grad():
        for parameter in latent_llama.latent_projector.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    projector = backbone(latent_llama).latent_projector
    own = latents_of(latent_llama)
    with ablated(latent_llama, "zeros"):
        assert latents_of(latent_llama).abs().max() == 0
    with ablated(latent_llama, "noise"):
        noise = latents_of(latent_llama)
        assert torch.allclose(noise[:, 0].norm(dim=-1), own[:, 0].norm(dim=-1))
        assert not torch.allclose(noise[:, 0], own[:, 0])
    with ablated(latent_llama, "init"):
        assert not torch.allclose(latents_of(latent_llama)[:, 0], own[:, 0])
    assert backbone(latent_llama).latent_projector is projector
    assert torch.equal(latents_of(latent_llama), own)


def test_another_rows_latents(latent_llama):
    own = latents_of(latent_llama)
    with ablated(latent_llama, "other_row"):
        swapped = latents_of(latent_llama)
    assert torch.equal(swapped[0, 0], own[1, 0]) and torch.equal(swapped[1, 0], own[0, 0])


def test_a_model_without_latent_steps_cannot_be_ablated(tiny_base):
    model, _ = load(tiny_base)
    with (
        pytest.raises(ModelError, match="needs a model with latent steps"),
        ablated(model, "zeros"),
    ):
        pass
