"""Classes and functions of the user's own, named as `path/to/file.py:name`."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason.errors import ConfigError


def from_file(place: str) -> Any:
    """What `path/to/file.py:name` names.

    Raises:
        ConfigError: no such file or name, or the file cannot be imported.
    """
    path, _, name = place.rpartition(":")
    if not path:
        raise ConfigError(f"{place!r} names no class or function; expected path/to/file.py:name")
    if not Path(path).is_file():
        raise ConfigError(f"no such file: {path}; expected path/to/file.py:name")
    spec = importlib.util.spec_from_file_location(f"litereason_file_{Path(path).stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look the module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{path} has no {name!r}")
    return getattr(module, name)


def function_from_file(place: str) -> Any:
    """The function that `path/to/file.py:name` names.

    Raises:
        ConfigError: as `from_file`, or it is no function.
    """
    if not callable(found := from_file(place)):
        raise ConfigError(f"{place} is {found!r}; expected a function")
    return found


def code_of(task: str, options: dict[str, Any], rewards: Sequence[str] = ()) -> list[str]:
    """The text of the files that hold a user's task and rewards."""
    places = [place for place in (task, *rewards, str(options.get("reward"))) if ".py:" in place]
    return [Path(place.rpartition(":")[0]).read_text("utf-8") for place in places]
