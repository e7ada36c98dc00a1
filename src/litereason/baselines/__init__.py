"""Baselines over the same latent machinery: other ways to decode, to fine-tune and to do RL.

Registries by name; a mechanism is imported when it is used.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from litereason.errors import ConfigError

# `SamplingConfig.decoding`: a context manager (model, tokenizer, *, temperature, ...) that yields a
# function () -> more arguments of `generate`, called anew for every batch.
DECODINGS = {"colar": "colar:decoding"}
# `litereason sft --method`: (config, trainer's settings, directory, model, tokenizer, traces, *, ...) ->
# what goes into the summary.
METHODS = {"colar": "colar_sft:train"}
# `litereason rl --method`: a LatentGRPOTrainer with more keyword arguments.
TRAINERS = {"colar": "colar_rl:ColarGRPOTrainer"}


def mechanism(registry: Mapping[str, str], name: str) -> Any:
    """What `registry` names `name`.

    Raises:
        ConfigError: no such name.
    """
    if name not in registry:
        raise ConfigError(f"unknown method {name!r}; expected one of {sorted(registry)}")
    module, _, function = registry[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)


def check_options(registry: Mapping[str, str], name: str, options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless the mechanism takes all `options`."""
    parameters = inspect.signature(mechanism(registry, name)).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"temperature"}
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"{name} has no option {unknown}; expected some of {sorted(known)}")


def check_method(registry: Mapping[str, str], name: str, options: Mapping[str, Any]) -> None:
    """As `check_options`, for a stage that has a method of its own, `thoughts`, without such options."""
    if name != "thoughts":
        check_options(registry, name, options)
    elif options:
        raise ConfigError("--method_options were given without --method")
