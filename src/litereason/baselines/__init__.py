"""Baselines over the same latent machinery: other ways to take latent steps, and to train them.

`DECODINGS` are ways to decode that need no training: a dataclass each, whose fields are its options.
Ways to train are in `sft_methods.METHODS`. Mechanisms only: which arms are run and compared is not
decided here.
"""

import dataclasses
from typing import Any

from litereason.baselines.base import Decoding
from litereason.baselines.mixture_of_inputs import MixtureOfInputs
from litereason.baselines.soft_thinking import SoftThinking
from litereason.errors import ConfigError
from litereason.options import coerce

DECODINGS: dict[str, type[Decoding]] = {
    "mixture_of_inputs": MixtureOfInputs,
    "soft_thinking": SoftThinking,
}


def decoding_of(name: str | None, options: dict[str, Any]) -> Decoding | None:
    """The decoding called `name` with its options, or None: latent steps by tags.

    Raises:
        ConfigError: an unknown name or option, or a value that is out of range.
    """
    if name is None:
        if options:
            raise ConfigError(f"--decoding_options {options} were given without --decoding")
        return None
    if name not in DECODINGS:
        raise ConfigError(f"--decoding is {name!r}; expected one of {', '.join(DECODINGS)}")
    kind = DECODINGS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := [option for option in options if option not in known]:
        raise ConfigError(
            f"--decoding_options.{unknown[0]} is unknown to {name}; it takes {', '.join(known)}"
        )
    try:
        return kind(**{option: coerce(kind, option, value) for option, value in options.items()})
    except ConfigError as error:
        raise ConfigError(f"--decoding_options of {name}: {error}") from error
