"""Runs the benchmarks beside this file and gathers what they print in `results.jsonl`.

Each `bench_*.py` runs as its own process and prints its records (`harness.report`) as the last lines
of its stdout. Results of benchmarks that did not run this time are kept. The exit status is 1 if a
benchmark fails to run, not if a goal does not hold. What is left out: measuring (`harness.py`), and
running two at once, which would disturb both.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from harness import KEYS
from litereason.errors import LiteReasonError
from litereason.files import read_jsonl, write_jsonl

HERE = Path(__file__).parent
LIMIT = 1800  # seconds for one file
Record = dict[str, Any]


class BenchmarkError(Exception):
    """A benchmark that did not run to its records."""


def main(argv: list[str] | None = None, directory: Path = HERE) -> int:
    """Run what is asked for; return the exit status."""
    files = {
        path.stem.removeprefix("bench_"): path for path in sorted(directory.glob("bench_*.py"))
    }
    parser = argparse.ArgumentParser(description="Run the benchmarks and gather their results.")
    parser.add_argument(
        "--only", metavar="NAME", choices=sorted(files), help=f"one of: {', '.join(files)}"
    )
    options = parser.parse_args(argv)
    console, notes = Console(), Console(stderr=True, highlight=False)
    results = directory / "results.jsonl"
    fresh: list[str] = []
    failed = False
    for name in [options.only] if options.only else files:
        notes.print(f"{name} ...", markup=False)
        start = time.monotonic()
        try:
            records = run_file(files[name])
            merge(results, records)
        except (BenchmarkError, LiteReasonError) as error:
            notes.print(f"{name} failed: {error}", markup=False, style="red")
            failed = True
            continue
        fresh += [record["benchmark"] for record in records]
        notes.print(f"{name}: {time.monotonic() - start:.0f} s", markup=False)
    try:
        console.print(table_of(read_results(results), fresh))
    except LiteReasonError as error:
        notes.print(f"{results}: {error}", markup=False, style="red")
        failed = True
    return int(failed)


def run_file(path: Path, limit: float = LIMIT) -> list[Record]:
    """Run one benchmark with this interpreter; return the records it printed last.

    Raises:
        BenchmarkError: it failed, took longer than `limit` seconds, or printed no record.
    """
    command = [sys.executable, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{path.name} took more than {limit:g} s") from error
    if done.returncode:
        raise BenchmarkError(f"exit status {done.returncode}\n{done.stderr.strip()[-4000:]}")
    for line in done.stdout.splitlines():
        if record_of(line) is None:
            print(line, file=sys.stderr)
    records = last_records(done.stdout)
    if not records:
        raise BenchmarkError("its last lines are no records; end it with harness.report(...)")
    return records


def last_records(text: str) -> list[Record]:
    """The records among the lines of `text`, if the last line is one."""
    lines = text.strip().splitlines()
    if not lines or record_of(lines[-1]) is None:
        return []
    return [record for line in lines if (record := record_of(line)) is not None]


def record_of(line: str) -> Record | None:
    """The record that a line holds, if its keys are those of `harness.report`."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and set(value) == set(KEYS) else None


def read_results(path: Path) -> list[Record]:
    """The records of an earlier run, if there are any; rows of another format are left out.

    Raises:
        DataError: the file cannot be read.
    """
    rows = read_jsonl(path) if path.is_file() and path.stat().st_size else []
    return [row for row in rows if set(row) == set(KEYS)]


def merge(path: Path, records: list[Record]) -> None:
    """Write `records` over earlier ones of the same name and keep the others, whole or not at all.

    Raises:
        DataError: the file of earlier results cannot be read.
    """
    rows = {row["benchmark"]: row for row in [*read_results(path), *records]}
    write_jsonl(path, [rows[name] for name in sorted(rows)])


def table_of(records: list[Record], fresh: list[str]) -> Table:
    """All results; those of an earlier run are dim."""
    caption = "ratio: ours / other, the median of paired runs; dim: of an earlier run"
    table = Table(caption=caption, box=box.SIMPLE, pad_edge=False)
    for column in ("benchmark", "against", "unit"):
        table.add_column(column)
    for column in ("ours", "other", "ratio", "goal", "holds"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in records:
        ((peer, value),) = record["other"].items()
        table.add_row(
            *(record["benchmark"], peer, record["unit"], f"{record['ours']:.3g}", f"{value:.3g}"),
            *(f"{record['ratio']:.3f}", record["goal"], "yes" if record["holds"] else "NO"),
            style=None if record["benchmark"] in fresh else "dim",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
