"""Every error that LiteReason raises on purpose.

    LiteReasonError (ValueError)
    ├── ConfigError      an option, recipe or run directory that cannot work
    ├── ModelError       a model or tokenizer that cannot take latent steps, or is not what it should be
    ├── DataError        a data file, task or record that cannot be read
    ├── RewardError      a reward function that raised or returned something that is no reward
    ├── EndpointError    an endpoint that does not answer, refuses, or answers with no text
    └── LatentError      latent slots or tags that have no meaning where they stand

Messages say what was got, what was expected and how to fix it. All are `ValueError`s, so that
callers who know nothing of LiteReason catch what they expect.
"""

import difflib
from collections.abc import Iterable


class LiteReasonError(ValueError):
    """Base of all errors below."""


class ConfigError(LiteReasonError):
    """An option, recipe or run directory that cannot work."""


class ModelError(LiteReasonError):
    """A model or tokenizer that cannot take latent steps, or is not what it should be."""


class DataError(LiteReasonError):
    """A data file, task or record that cannot be read."""


class RewardError(LiteReasonError):
    """A reward function that raised or returned something that is no reward."""


class EndpointError(LiteReasonError):
    """An endpoint that does not answer, refuses, or answers with no text."""


class LatentError(LiteReasonError):
    """Latent slots or tags that have no meaning where they stand."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown name: which known one comes near; empty if none does."""
    close = difflib.get_close_matches(name, [*known], 1)
    return f" Did you mean {prefix}{close[0]}?" if close else ""
