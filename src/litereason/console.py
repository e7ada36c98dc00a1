"""What people see while they wait: one console on stderr and rich progress bars."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False)
# In a process beside others: is told ("say", message) and ("bar", fields) in place of the terminal.
listener: Callable[[str, Any], None] | None = None


class _ToldProgress(Progress):
    """A display that shows nothing and tells the listener."""

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        task = super().add_task(*args, **kwargs)
        self._tell(task)
        return task

    def update(self, task_id: TaskID, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().update(task_id, **kwargs)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = next(task for task in self.tasks if task.id == task_id)
        fields = {"description": task.description, "completed": task.completed, "total": task.total}
        if listener:
            listener("bar", fields | task.fields)


def progress() -> Progress:
    """A progress display with a description, a bar, counts, times and a `note` field."""
    if listener:
        return _ToldProgress(disable=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=14),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=False,
    )


def say(message: str) -> None:
    """One line for people; results for programs go to files and stdout."""
    if listener:
        listener("say", message)
    else:
        console.print(message, markup=False)


def spread(found: Mapping[str, float | None], digits: int = 2) -> str:
    """A mean with its interval: `0.51 [0.47, 0.55]`; `0.51 [–]` where that cannot be estimated."""
    if found["low"] is None:
        return f"{found['mean']:.{digits}f} [–]"
    return "{mean:.{0}f} [{low:.{0}f}, {high:.{0}f}]".format(digits, **found)
