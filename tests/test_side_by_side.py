"""Jobs beside each other: results, progress, errors, deaths, and ends with the parent."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from litereason import console
from litereason.errors import ConfigError
from litereason.side_by_side import side_by_side


def double(number: int) -> tuple[int, int]:
    with console.progress() as bar:
        task = bar.add_task(f"doubling {number}", total=2, note="")
        bar.advance(task, 1)
        bar.update(task, completed=2, note="twice")
    console.say(f"doubled {number}")
    print("to the log")
    return 2 * number, torch.get_num_threads()


def meet(mine: Path, other: Path) -> None:
    """Ends only if the other job runs at the same time."""
    mine.touch()
    wait_for(other)


def fail(error: BaseException) -> None:
    raise error


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def slowly(mine: Path) -> None:
    time.sleep(1)
    mine.touch()


def exists(path: Path) -> bool:
    return path.exists()


def linger(mine: Path) -> None:
    whole = mine.with_suffix(".whole")
    whole.write_text(str(os.getpid()))
    whole.rename(mine)
    time.sleep(100)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether the process ends within 10 seconds, a zombie that nobody fetches included."""
    for _ in range(100):
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        )
        if state.stdout.strip()[:1] in ("", "Z"):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_threads_do_not_depend_on_workers(tmp_path, capfd, workers):
    jobs = {f"job {n}": functools.partial(double, n) for n in range(3)}
    found = side_by_side(jobs, workers, tmp_path)
    assert found == {f"job {n}": (2 * n, 1) for n in range(3)}
    assert list(found) == list(jobs)
    shown = capfd.readouterr()
    for n in range(3):
        assert f"doubled {n}" in shown.err
        assert f"doubling {n}" in shown.err
    if workers == 2:
        assert "to the log" not in shown.out
        assert (tmp_path / "job 0.log").read_text() == "to the log\n"


def test_jobs_run_at_the_same_time(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    side_by_side(
        {"a": functools.partial(meet, a, b), "b": functools.partial(meet, b, a)}, 2, tmp_path
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_and_end_the_others(tmp_path, workers):
    error = ConfigError("no such thing")
    jobs = {
        "bad": functools.partial(fail, error),
        "long": functools.partial(linger, tmp_path / "pid"),
    }
    start = time.monotonic()
    with pytest.raises(ConfigError, match="no such thing"):
        side_by_side(jobs, workers, tmp_path)
    assert time.monotonic() - start < 60


def test_a_death_is_told_with_its_log(tmp_path):
    with pytest.raises(ChildProcessError, match=r"bad ended with exit code -9; see .*bad\.log"):
        side_by_side({"bad": die, "good": functools.partial(double, 1)}, 2, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_keeps_going_has_errors_as_results(tmp_path, workers):
    jobs = {
        "bad": functools.partial(fail, ConfigError("no such thing")),
        "needs bad": functools.partial(double, 1),
        "needs that": functools.partial(double, 2),
        "good": functools.partial(double, 3),
    }
    needs = {"needs bad": ["good", "bad"], "needs that": ["needs bad"]}
    jobs = {name: jobs[name] for name in ("bad", "good", "needs bad", "needs that")}
    found = side_by_side(jobs, workers, tmp_path, needs, keep_going=True)
    assert isinstance(found["bad"], ConfigError)
    assert "needs bad, which failed" in str(found["needs bad"])
    assert "needs needs bad, which failed" in str(found["needs that"])
    assert found["good"] == (6, 1)


def test_the_last_jobs_may_end_without_a_start(tmp_path):
    jobs = {"bad": functools.partial(fail, ConfigError("no")), "last": functools.partial(double, 1)}
    found = side_by_side(jobs, 2, tmp_path, {"last": ["bad"]}, keep_going=True)
    assert "needs bad, which failed" in str(found["last"])


def test_who_keeps_going_outlives_a_death(tmp_path):
    jobs = {"dies": die, "good": functools.partial(double, 3)}
    found = side_by_side(jobs, 2, tmp_path, keep_going=True)
    assert "exit code -9" in str(found["dies"])
    assert found["good"] == (6, 1)


def test_a_job_waits_for_what_it_needs(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    jobs = {"slow": functools.partial(slowly, first), "after": functools.partial(exists, first)}
    jobs["beside"] = functools.partial(meet, second, first)
    found = side_by_side(jobs, 2, tmp_path, {"after": ["slow"]})
    assert found["after"] is True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_jobs_end_with_their_parent(tmp_path, how):
    script = (
        "import functools, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in background jobs
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_side_by_side import linger\n"
        "from litereason.side_by_side import side_by_side\n"
        "run = Path(sys.argv[2])\n"
        "if __name__ == '__main__':\n"
        "    jobs = {n: functools.partial(linger, run / n) for n in 'ab'}\n"
        "    side_by_side(jobs, 2, run)\n"
    )
    file = tmp_path / "script.py"
    file.write_text(script)
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, str(file), here, str(tmp_path)], stderr=subprocess.DEVNULL
    )
    for name in "ab":
        wait_for(tmp_path / name)
    process.send_signal(how)
    assert process.wait(30) != 0
    assert all(gone(int((tmp_path / name).read_text())) for name in "ab")
