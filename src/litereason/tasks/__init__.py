"""Tasks by name, or by `path/to/file.py:ClassName`."""

import inspect
import types
import typing
from typing import Any

from litereason.errors import ConfigError, did_you_mean
from litereason.options import fitted
from litereason.tasks.base import Example, Task
from litereason.tasks.flawed_fictions import FlawedFictionsTask
from litereason.tasks.jsonl import JsonlTask
from litereason.tasks.math import Gsm8kTask, GsmHardTask
from litereason.tasks.next_chapter import NextChapterTask
from litereason.tasks.stories import StoriesTask
from litereason.tasks.user_code import from_file

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        *(StoriesTask, FlawedFictionsTask, NextChapterTask, Gsm8kTask, GsmHardTask),
        JsonlTask,
    )
}
PLAIN = {int, float, str, bool, type(None)}  # what is checked of the options' types
__all__ = ["TASKS", "Example", "Task", "from_file", "get_task"]


def get_task(name: str, options: dict[str, Any] | None = None) -> Task:
    """The task called `name`, made with `options`.

    Raises:
        ConfigError: no such task or file, an option that it does not take or that is missing, or one of
            another type than its constructor says.
    """
    if name in TASKS:
        chosen: Any = TASKS[name]
    elif ".py:" in name:
        chosen = from_file(name)
        if not (inspect.isclass(chosen) and issubclass(chosen, Task)):
            raise ConfigError(f"{name}: expected a class that is a litereason.tasks.Task")
    else:
        raise ConfigError(
            f"unknown task {name!r}; expected one of {sorted(TASKS)} or path/to/file.py:Class."
            f"{did_you_mean(name, TASKS)}"
        )
    accepted = inspect.signature(chosen).parameters
    if unknown := sorted(set(options or {}) - set(accepted)):
        raise ConfigError(f"task {name!r} takes the options {list(accepted)}, not {unknown}")
    single = [one for one in accepted.values() if "VAR" not in one.kind.name]
    needed = [one.name for one in single if one.default is one.empty]
    if missing := [one for one in needed if one not in (options or {})]:
        raise ConfigError(
            f"task {name!r} needs {' and '.join(f'--task_options.{one}' for one in missing)}"
        )
    given = _typed(chosen, options or {})
    try:
        return chosen(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"task {name!r} refuses its options {options or {}}: {error}") from error


def _typed(task: type[Task], options: dict[str, Any]) -> dict[str, Any]:
    """Options as the types that the constructor names, where those are plain."""
    try:
        hints = typing.get_type_hints(task.__init__)
    except (NameError, TypeError):  # a name that only type checkers import
        return options
    return {
        name: fitted(hints[name], f"task_options.{name}", value)
        if name in hints and _kinds(hints[name]) <= PLAIN
        else value
        for name, value in options.items()
    }


def _kinds(hint: Any) -> set[Any]:
    """The types of a union, or the one type."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return set(typing.get_args(hint)) if union else {hint}
