"""The projector's trainer: what trains, and what happens to numbers that are none."""

import pytest
import torch

import litereason
from conftest import random_llama
from litereason.errors import ConfigError
from litereason.sft import ProjectorConfig, ProjectorTrainer

ROWS = [{"input_ids": [1, 8, 37, 4, 4, 9 + k], "labels": [-100] * 5 + [9 + k]} for k in range(4)]


class Spoiled(ProjectorTrainer):
    """Its loss is not a number in the steps of `bad`."""

    bad: tuple[int, ...] = ()

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.state.global_step in self.bad else loss


def trained(model, tmp_path, bad=(), **options):
    """(trainer after 4 steps, how far the projector and the rest moved)."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    settings = ProjectorConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=1, gradient_accumulation_steps=1,
        learning_rate=1e-2, warmup_steps=0, use_cpu=True, save_strategy="no", **options,
    )  # fmt: skip
    trainer = Spoiled(model, settings, ROWS, 0)
    trainer.bad = bad
    trainer.train()
    moved = {"projector": 0.0, "rest": 0.0}
    for name, parameter in model.named_parameters():
        part = "projector" if "latent_projector" in name else "rest"
        change = float((parameter - before[name]).detach().abs().max())
        moved[part] = max(moved[part], change)
    return trainer, moved


@pytest.mark.parametrize("train", ["projector", "all"])
def test_what_trains(latent_llama, tmp_path, train):
    trainer, moved = trained(latent_llama, tmp_path, train=train)
    assert trainer.skipped_steps == 0
    assert moved["projector"] > 0 and (moved["rest"] > 0) == (train == "all")


def test_steps_that_are_not_finite_are_skipped_and_counted(latent_llama, words, tmp_path):
    trainer, moved = trained(latent_llama, tmp_path, bad=(0, 1, 2, 3))
    assert trainer.skipped_steps == 4 and moved["projector"] == 0
    trainer, moved = trained(latent_llama, tmp_path, bad=(1,))
    assert trainer.skipped_steps == 1 and 0 < moved["projector"] < 1


def test_a_projector_without_parameters(words, tmp_path):
    config = litereason.LatentConfig(projector="identity")
    model = litereason.attach(random_llama(words), words, config)
    with pytest.raises(ConfigError, match="nothing to train"):
        trained(model, tmp_path, train="projector")
    _, moved = trained(model, tmp_path, train="all")
    assert moved["rest"] > 0
    assert torch.isfinite(model(torch.tensor([ROWS[0]["input_ids"]])).logits).all()
