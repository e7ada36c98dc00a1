"""Baselines over the same latent machinery: other ways to take latent steps, and to train them.

`DECODINGS` are ways to decode: a dataclass each, whose fields are its options. Ways to train are in
`sft_methods.METHODS` and `rl_methods.METHODS`. Mechanisms only: which arms are run and compared is not
decided here.
"""

from typing import Any

from litereason.baselines.base import Decoding
from litereason.baselines.colar import Colar
from litereason.baselines.mixture_of_inputs import MixtureOfInputs
from litereason.baselines.soft_thinking import SoftThinking
from litereason.errors import ConfigError
from litereason.options import choose

DECODINGS: dict[str, type[Decoding]] = {
    "mixture_of_inputs": MixtureOfInputs,
    "soft_thinking": SoftThinking,
    "colar": Colar,
}


def decoding_of(name: str | None, options: dict[str, Any]) -> Decoding | None:
    """The decoding called `name` with its options, or None: latent steps by tags.

    Raises:
        ConfigError: an unknown name or option, or a value that is out of range.
    """
    if name is not None:
        return choose("decoding", DECODINGS, name, options)
    if options:
        raise ConfigError(f"--decoding_options {options} were given without --decoding")
    return None
