"""Baselines over the same latent machinery: other ways to decode, to fine-tune and to do RL.

Registries by name. What trains is imported when it is used.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from litereason.baselines.colar import Colar
from litereason.errors import ConfigError

# `SamplingConfig.decoding`: a dataclass of options; called with (model, tokenizer, temperature), a context
# that yields a function () -> more arguments of `generate`, called anew for every batch.
DECODINGS = {"colar": Colar}
# `litereason sft --method`: (config, trainer's settings, directory, model, tokenizer, traces, *, ...) ->
# what goes into the summary.
METHODS = {"colar": "colar_sft:train"}
# `litereason rl --method`: a LatentGRPOTrainer with more keyword arguments.
TRAINERS = {"colar": "colar_rl:ColarGRPOTrainer"}


def decoding_of(name: str | None, options: Mapping[str, Any]) -> Any:
    """The decoding `name` with its `options`, or None: latent steps by tags.

    Raises:
        ConfigError: an unknown name or option, or a value out of range.
    """
    if name is None:
        if options:
            raise ConfigError("--decoding_options were given without --decoding")
        return None
    if name not in DECODINGS:
        raise ConfigError(f"--decoding is {name!r}; expected one of {sorted(DECODINGS)}")
    known = {field.name for field in dataclasses.fields(DECODINGS[name])}
    check_options(name, options, known)
    return DECODINGS[name](**options)


def mechanism(registry: Mapping[str, str], name: str) -> Any:
    """What `registry` names `name`."""
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def check_method(registry: Mapping[str, str], name: str, options: Mapping[str, Any]) -> None:
    """Check a stage's method; its own is called `thoughts` and has no such options.

    Raises:
        ConfigError: an unknown name or option.
    """
    if name == "thoughts":
        if options:
            raise ConfigError("--method_options were given without --method")
        return
    if name not in registry:
        raise ConfigError(f"--method is {name!r}; expected thoughts or one of {sorted(registry)}")
    parameters = inspect.signature(mechanism(registry, name)).parameters.values()
    check_options(name, options, {p.name for p in parameters if p.kind is p.KEYWORD_ONLY})


def check_options(name: str, options: Mapping[str, Any], known: set[str]) -> None:
    """Raise `ConfigError` unless all `options` of the method `name` are `known`."""
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"{name} has no option {unknown}; expected some of {sorted(known)}")
