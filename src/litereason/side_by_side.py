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
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from litereason import console

Job = Callable[[], Any]


def side_by_side(jobs: Mapping[str, Job], workers: int, logs: Path) -> dict[str, Any]:
    """Run every job on one thread, `workers` at a time; returns what each returned.

    With one worker the jobs run in this process, one after the other, and come out the same. An error
    of a job, its death or Ctrl-C stops the others at once: use jobs that can be taken up again.

    Args:
        jobs: by name; with several workers they are pickled and run in fresh processes.
        workers: how many run at a time.
        logs: directory of `NAME.log`: stdout and stderr of each job's process.

    Raises:
        Exception: what a job raised; its traceback there is the cause.
        ChildProcessError: a job's process died.
    """
    if workers == 1:
        with one_thread():
            return {name: job() for name, job in jobs.items()}
    logs.mkdir(parents=True, exist_ok=True)
    waiting = dict(jobs)
    running: dict[Connection, tuple[str, Any]] = {}
    results: dict[str, Any] = {}
    with console.progress() as bars:
        drawn: dict[str, tuple[Any, str]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    name = next(iter(waiting))
                    end, process = _start(waiting.pop(name), logs / f"{name}.log")
                    running[end] = name, process
                for end in wait(list(running)):
                    assert isinstance(end, Connection)
                    name, process = running[end]
                    try:
                        kind, value = end.recv()
                    except EOFError:
                        process.join()
                        raise ChildProcessError(
                            f"{name} ended with exit code {process.exitcode}; see {logs}/{name}.log. "
                            "The same command goes on where it stopped"
                        ) from None
                    if kind == "bar":
                        _draw(bars, drawn, name, value)
                    elif kind == "say":
                        console.say(value)
                    elif kind == "error":
                        error, trace = value
                        raise error from ChildProcessError(f"in the process of {name}:\n{trace}")
                    else:
                        results[name] = value
                        process.join()
                        del running[end]
        finally:
            for _, process in running.values():
                process.terminate()
            for _, process in running.values():
                process.join()
    return {name: results[name] for name in jobs}


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
