"""LiteReason: teach a language model to think in fewer tokens.

A causal LM gets a small Reasoning Projector that makes continuous latent tokens; the model decides,
by sampling a tag, when to stop writing and think (arXiv 2512.02240).

    model, tokenizer = litereason.load("smollm2-135m")
    litereason.attach(model, tokenizer)
    model.generate(**tokenizer("...", return_tensors="pt"))
"""

from litereason.config import LatentConfig
from litereason.errors import LiteReasonError
from litereason.generation import Completion, read_completion
from litereason.model import attach, load, save
from litereason.tags import Tags, pending

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "LatentConfig",
    "LiteReasonError",
    "Tags",
    "attach",
    "load",
    "pending",
    "read_completion",
    "save",
]
