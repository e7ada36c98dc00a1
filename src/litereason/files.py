"""Files that are whole or absent: atomic writes, and JSON lines with errors that name the line."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from litereason.errors import DataError


@contextlib.contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, renamed to it when the block ends well."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp makes it private, and safetensors its files
        for file in partial.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / target.name)
            try:
                partial.rename(target)
            except BaseException:
                (old / target.name).rename(target)
                old.rmdir()
                raise
            shutil.rmtree(old)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def write_json(path: str | Path, value: Any) -> Path:
    """One JSON value, indented."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> Path:
    """One JSON object a line."""
    return write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read JSON lines.

    Raises:
        DataError: no such file, a directory, an empty file, or a line that is no JSON object (with its
            number).
    """
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    """Read JSON lines with their line numbers, from 1; blank lines are left out.

    Raises:
        DataError: as `read_jsonl`.
    """
    source = Path(path)
    if source.is_dir():
        raise DataError(f"{source} is a directory; expected a JSON Lines file")
    if not source.is_file():
        raise DataError(f"no such file: {source}")
    rows = []
    for number, data in enumerate(source.read_bytes().split(b"\n"), 1):
        if not data.strip():
            continue
        try:
            line = data.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{source}, line {number}: not UTF-8 ({error.reason})") from error
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            why = "it holds NUL bytes: the file is damaged" if "\0" in line else error.msg
            raise DataError(f"{source}, line {number}: not JSON ({why})") from error
        if not isinstance(row, dict):
            raise DataError(f"{source}, line {number}: expected a JSON object, got {line[:40]!r}")
        rows.append((number, row))
    if not rows:
        raise DataError(f"{source} is empty; expected one JSON object a line")
    return rows


def finished_lines(path: str | Path) -> list[dict[str, Any]]:
    """Whole lines of a file that a killed run appended to; a line cut off is dropped from the file too."""
    source = Path(path)
    if not source.exists():
        return []
    data = source.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        source.write_bytes(whole)
    rows = []
    for number, line in enumerate(whole.split(b"\n"), 1):
        try:
            rows += [json.loads(line)] if line else []
        except ValueError as error:
            raise DataError(
                f"{source}, line {number}: damaged ({error}). Delete the line; what it held is made again"
            ) from error
    return rows


def read_json(path: str | Path) -> Any:
    """Read one JSON value.

    Raises:
        DataError: no such file, or not JSON.
    """
    source = Path(path)
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no such file: {source}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{source}, line {error.lineno}: not JSON ({error.msg})") from error
