"""JSON whose every field is checked when it is read, so that an error names its file and line."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from litereason.errors import DataError
from litereason.report.run import Estimate

NUMBER = (int, float)


@dataclasses.dataclass(frozen=True)
class Fields:
    """A JSON object and the place it was read from, so that errors can name it."""

    path: Path
    line: int
    data: dict[str, Any]
    where: str = ""

    def error(self, message: str) -> DataError:
        return DataError(f"{self.path}:{self.line}: {self.where}{message}")

    def get(self, key: str, *kinds: type, null: bool = False) -> Any:
        """The value of `key`, of one of `kinds`; a number must be finite."""
        if key not in self.data:
            raise self.error(f"field {key!r} is missing")
        value = self.data[key]
        if value is None and null:
            return None
        # bool is an int in Python, but `true` where a number is expected is a mistake
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(kind.__name__ for kind in kinds) + (" or null" if null else "")
            raise self.error(f"field {key!r} is {value!r}; expected {expected}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"field {key!r} is {value}; expected a finite number")
        return value

    def estimate(self, key: str, null: bool = False) -> Estimate | None:
        inner = self.inner(key, null=null)
        if inner is None:
            return None
        mean, low, high = (float(inner.get(name, *NUMBER)) for name in ("mean", "low", "high"))
        by_seed = inner.numbers("by_seed") if "by_seed" in inner.data else ()
        return Estimate(mean, low, high, by_seed)

    def numbers(self, key: str) -> tuple[float, ...]:
        """The numbers in the list `key`."""
        found = self.get(key, list)
        if not all(type(one) in NUMBER and math.isfinite(one) for one in found):
            raise self.error(f"field {key!r} is {found!r:.60}; expected finite numbers")
        return tuple(found)

    def integers(self, key: str) -> tuple[int, ...]:
        """The whole numbers in the list `key`."""
        found = self.get(key, list)
        if not all(type(one) is int for one in found):
            raise self.error(f"field {key!r} is {found!r:.60}; expected whole numbers")
        return tuple(found)

    def inner(self, key: str, null: bool = False) -> "Fields | None":
        """The object in `key`."""
        value = self.get(key, dict, null=null)
        where = f"{self.where}{key}: "
        return None if value is None else dataclasses.replace(self, data=value, where=where)

    def each(self, key: str) -> "list[Fields]":
        """The objects in the list `key`."""
        found = []
        for index, one in enumerate(self.get(key, list)):
            if not isinstance(one, dict):
                raise self.error(f"{key}, entry {index} is {one!r:.60}; expected a JSON object")
            where = f"{self.where}{key}, entry {index}: "
            found.append(dataclasses.replace(self, data=one, where=where))
        return found


def parse(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{line or error.lineno}: not JSON: {error.msg} at column {error.colno}"
        ) from error


def read_text(path: Path, remedy: str = "") -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}:1: the file is missing; {remedy}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text: {error.reason}") from error


def read_object(path: Path, remedy: str = "") -> Fields:
    """The JSON object that is the file."""
    data = parse(read_text(path, remedy), path)
    if not isinstance(data, dict):
        raise DataError(f"{path}:1: expected a JSON object, got {data!r:.60}")
    return Fields(path, 1, data)


def read_lines(path: Path, remedy: str = "") -> list[Fields]:
    rows = []
    # split("\n"), not splitlines(): JSON strings may hold U+2028 and friends unescaped
    for number, text in enumerate(read_text(path, remedy).split("\n"), start=1):
        if text.strip():
            value = parse(text, path, number)
            if not isinstance(value, dict):
                raise DataError(f"{path}:{number}: expected a JSON object, got {value!r:.60}")
            rows.append(Fields(path, number, value))
    return rows
