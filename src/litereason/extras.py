"""Optional dependencies, imported where they are used, with an error that names the install line."""

import importlib
from typing import Any

from litereason.errors import ConfigError


def need(module: str, extra: str) -> Any:
    """Import `module`.

    Raises:
        ConfigError: it is not installed; says which extra has it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} is not installed; run: pip install 'litereason[{extra}]'"
        ) from error
