"""Independent jobs at the same time, one process and one thread each, with their bars in one terminal.

Small models leave a second thread idle most of the time; a second process they do not. What a job
shows goes to the parent, which draws it; anything else it writes goes to a log file of its own.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from litereason import console
from litereason.errors import LiteReasonError

Job = Callable[[], Any]


def side_by_side(
    jobs: Mapping[str, Job],
    workers: int,
    logs: Path,
    needs: Mapping[str, Sequence[str]] | None = None,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Run every job on one thread, `workers` at a time; returns what each returned.

    With one worker the jobs run in this process, one after the other, and come out the same. Ctrl-C, and an
    error of a job or its death unless told to keep going, stops the others at once: use jobs that can be
    taken up again.

    Args:
        jobs: by name, each after those that it needs; with several workers they are pickled and run in
            fresh processes.
        workers: how many run at a time.
        logs: directory of `NAME.log`: stdout and stderr of each job's process.
        needs: the jobs that must be done before a job starts.
        keep_going: a job that fails has its error as its result, and so have those that need it.

    Raises:
        Exception: what a job raised; its traceback there is the cause.
        ChildProcessError: a job's process died.
    """
    run = _Run(dict(jobs), needs or {}, keep_going, logs)
    if workers == 1:
        with one_thread():
            run.here()
    else:
        logs.mkdir(parents=True, exist_ok=True)
        run.in_processes(workers)
    return {name: run.results[name] for name in jobs}


class _Run:
    """Jobs that wait, that run, and that are done."""

    def __init__(
        self,
        jobs: dict[str, Job],
        needs: Mapping[str, Sequence[str]],
        keep_going: bool,
        logs: Path,
    ) -> None:
        self.waiting, self.needs, self.keep_going, self.logs = jobs, needs, keep_going, logs
        self.running: dict[Connection, tuple[str, Any]] = {}
        self.results: dict[str, Any] = {}

    def next(self) -> tuple[str, Job] | None:
        """A job whose needs are met; those that need one that failed are done without a start."""
        for name in list(self.waiting):
            found = [self.results.get(need, _Undone) for need in self.needs.get(name, ())]
            failed = [
                need for need in self.needs.get(name, ()) if is_failure(self.results.get(need))
            ]
            if failed:
                del self.waiting[name]
                self.results[name] = LiteReasonError(f"it needs {failed[0]}, which failed")
            elif _Undone not in found:
                return name, self.waiting.pop(name)
        return None

    def here(self) -> None:
        """All jobs in this process."""
        while ready := self.next():
            name, job = ready
            try:
                self.results[name] = job()
            except Exception as error:
                if not self.keep_going:
                    raise
                self.results[name] = error

    def in_processes(self, workers: int) -> None:
        """All jobs, each in a process of its own."""
        with console.progress() as bars:
            drawn: dict[str, tuple[Any, str]] = {}
            try:
                while self.waiting or self.running:
                    while len(self.running) < workers and (ready := self.next()):
                        end, process = _start(ready[1], self.logs / f"{ready[0]}.log")
                        self.running[end] = ready[0], process
                    # the last ones may have failed without a start, and `wait` for none has no end
                    for end in wait(list(self.running)) if self.running else ():
                        assert isinstance(end, Connection)
                        self.hear(end, bars, drawn)
            finally:
                for _, process in self.running.values():
                    process.terminate()
                for _, process in self.running.values():
                    process.join()

    def hear(self, end: Connection, bars: Any, drawn: dict[str, tuple[Any, str]]) -> None:
        """What a job's process says next."""
        name, process = self.running[end]
        kind: str
        value: Any
        try:
            kind, value = end.recv()
        except EOFError:
            process.join()
            error = ChildProcessError(
                f"{name} ended with exit code {process.exitcode}; see {self.logs}/{name}.log. "
                "The same command goes on where it stopped"
            )
            kind, value = "error", (error, None)
        if kind == "bar":
            _draw(bars, drawn, name, value)
        elif kind == "say":
            console.say(value)
        elif kind == "error" and not self.keep_going:
            error, trace = value
            raise error from (trace and ChildProcessError(f"in the process of {name}:\n{trace}"))
        else:
            self.results[name] = value[0] if kind == "error" else value
            process.join()
            del self.running[end]


class _Undone:
    """Stands for the result of a job that has none yet."""


def is_failure(result: Any) -> bool:
    """Whether a job's result is the error that ended it."""
    return isinstance(result, BaseException)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on one thread in this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(job: Job, log: Path) -> tuple[Connection, Any]:
    """A process that runs `job`, and the end of the pipe that it reports to."""
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process with OpenMP threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs, log), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends when the process does
    return ours, process


def _work(job: Job, end: Connection, log: Path) -> None:
    """A job's process, from its beginning to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    lock = threading.Lock()

    def tell(kind: str, value: Any) -> None:
        with lock:
            end.send((kind, value))

    console.listener = tell
    torch.set_num_threads(1)
    try:
        tell("result", job())
    except BaseException as error:
        tell("error", (_sendable(error), traceback.format_exc()))


def _end_with_parent() -> None:
    """A parent that was killed cannot end us, and a new run must not find us writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """The error, or its text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _draw(bars: Any, drawn: dict[str, tuple[Any, str]], name: str, bar: dict[str, Any]) -> None:
    """A job's newest bar, in place of its last one."""
    task, title = drawn.get(name, (None, ""))
    if title != bar["description"]:
        if task is not None:
            bars.remove_task(task)
        task = bars.add_task(**bar)
        drawn[name] = task, bar["description"]
    bars.update(task, **bar)
