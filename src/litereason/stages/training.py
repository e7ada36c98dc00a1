"""What the two training stages share: how the base loads, the trainer's options, how a model is left."""

import shutil
from pathlib import Path
from typing import Any

import torch

from litereason import checkpoints
from litereason.console import say
from litereason.errors import ConfigError, LiteReasonError


def master_weights(whole: bool) -> dict[str, Any]:
    """How to load a model of which the `whole` trains: bfloat16 would round small steps away."""
    return {"dtype": torch.float32} if whole else {}


def finish(model: Any, tokenizer: Any, directory: Path, **kwargs: Any) -> Path:
    """Save the model of a training stage (`kwargs` as for `save`) and drop its checkpoints."""
    path = checkpoints.save(model, directory / "model", tokenizer, **kwargs)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    say(f"saved {path}")
    return path


def trainer_settings(kind: Any, directory: Path, config: Any, **more: Any) -> Any:
    """The trainer's options, checked by the trainer's own config.

    Raises:
        ConfigError: it refuses them.
    """
    options = defaults(config.seed) | more | config.trainer
    try:
        return kind(output_dir=str(directory / "checkpoints"), **options)
    except LiteReasonError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the trainer refuses its options {config.trainer}: {error}") from error


def defaults(seed: int) -> dict[str, Any]:
    """Trainer options that follow from the machine and the stage."""
    return {"use_cpu": not torch.cuda.is_available(), "seed": seed, "save_steps": 50}
