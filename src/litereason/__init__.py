"""LiteReason: teach a language model to think in fewer tokens.

A causal LM gets a small Reasoning Projector that makes continuous latent tokens; the model decides,
by sampling a tag, when to stop writing and think (arXiv 2512.02240).

    model, tokenizer = litereason.load("smollm2-135m")
    litereason.attach(model, tokenizer)
    model.generate(**tokenizer("...", return_tensors="pt"))

Names are imported when they are first used, so that the command line and the report start at once.
Importing has one side effect: Hugging Face's telemetry is off, unless its variable was set before.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litereason.checkpoints import load, save
    from litereason.config import LatentConfig
    from litereason.errors import LiteReasonError
    from litereason.generation import Completion, read_completion
    from litereason.model import attach, detach
    from litereason.tags import Tags, pending

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "LatentConfig",
    "LiteReasonError",
    "Tags",
    "attach",
    "detach",
    "load",
    "pending",
    "read_completion",
    "save",
]

_HOMES = {
    "Completion": "generation",
    "LatentConfig": "config",
    "LiteReasonError": "errors",
    "Tags": "tags",
    "attach": "model",
    "detach": "model",
    "load": "checkpoints",
    "pending": "tags",
    "read_completion": "generation",
    "save": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'litereason' has no attribute {name!r}")
    return getattr(importlib.import_module(f"litereason.{_HOMES[name]}"), name)
