"""Reads a run directory's files and checks every field that the page shows.

A broken file is named with its line here instead of failing in the template. What the figures mean
is left to `findings.py`.
"""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

from litereason.errors import DataError
from litereason.report.run import (
    Arm,
    Audit,
    AuditProbe,
    AuditRule,
    Comparison,
    Estimate,
    Record,
    Run,
    arm_rank,
)

NUMBER = (int, float)


@dataclasses.dataclass(frozen=True)
class _Fields:
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
        return Estimate(*(float(inner.get(name, *NUMBER)) for name in ("mean", "low", "high")))

    def inner(self, key: str, null: bool = False) -> "_Fields | None":
        """The object in `key`."""
        value = self.get(key, dict, null=null)
        where = f"{self.where}{key}: "
        return None if value is None else dataclasses.replace(self, data=value, where=where)

    def each(self, key: str) -> "list[_Fields]":
        """The objects in the list `key`."""
        found = []
        for index, one in enumerate(self.get(key, list)):
            if not isinstance(one, dict):
                raise self.error(f"{key}, entry {index} is {one!r:.60}; expected a JSON object")
            where = f"{self.where}{key}, entry {index}: "
            found.append(dataclasses.replace(self, data=one, where=where))
        return found


def _parse(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{line or error.lineno}: not JSON: {error.msg} at column {error.colno}"
        ) from error


def _read(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}:1: the file is missing; {remedy}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text: {error.reason}") from error


def _lines(path: Path, remedy: str) -> list[_Fields]:
    rows = []
    # split("\n"), not splitlines(): JSON strings may hold U+2028 and friends unescaped
    for number, text in enumerate(_read(path, remedy).split("\n"), start=1):
        if text.strip():
            value = _parse(text, path, number)
            if not isinstance(value, dict):
                raise DataError(f"{path}:{number}: expected a JSON object, got {value!r:.60}")
            rows.append(_Fields(path, number, value))
    return rows


def _record(row: _Fields) -> Record:
    spans = []
    for span in row.get("spans", list):
        kind, value = span if isinstance(span, list) and len(span) == 2 else (None, None)
        text = kind in ("discrete", "tag") and isinstance(value, str)
        steps = kind == "latent" and type(value) is int and value >= 0
        if not (text or steps):
            raise row.error(
                f"span {span!r:.80} is none of ['discrete', text], ['tag', text], ['latent', steps]"
            )
        spans.append((kind, value))
    label = row.get("label", str, int, float, bool, null=True)
    return Record(
        item=str(row.get("item", str, int)),
        sample=row.get("sample", int),
        label="" if label is None else str(label),
        prompt=row.get("prompt", str),
        spans=tuple(spans),
        reward=row.get("reward", *NUMBER, null=True),
        correct=row.get("correct", bool, null=True),
        discrete_tokens=row.get("discrete_tokens", int),
        latent_steps=row.get("latent_steps", int),
        thoughts=row.get("thoughts", int),
        truncated=row.get("truncated", bool),
    )


def _arm(folder: Path, remedy: str) -> Arm:
    path = folder / "summary.json"
    data = _parse(_read(path, remedy), path)
    if not isinstance(data, dict):
        raise DataError(f"{path}:1: expected a JSON object, got {data!r:.60}")
    row = _Fields(path, 1, data)
    values: dict[str, Any] = {"name": row.get("arm", str), "ablation": None}
    for key in ("title", "task", "split", "model", "command"):
        values[key] = row.get(key, str)
    for key in ("items", "samples", "seed"):
        values[key] = row.get(key, int)
    for key in ("discrete_tokens", "total_tokens", "latent_steps", "trigger_rate"):
        values[key] = row.estimate(key)
    for key in ("accuracy", "reward"):
        values[key] = row.estimate(key, null=True)
    for key in ("truncated", "seconds"):
        values[key] = row.get(key, *NUMBER)
    values["steps_per_thought"] = row.get("steps_per_thought", *NUMBER, null=True)
    if "ablation" in data:
        values["ablation"] = row.get("ablation", str, null=True)
    if values["accuracy"] is None and values["reward"] is None:
        raise row.error("'accuracy' and 'reward' are both null; expected at least one")
    records = tuple(_record(one) for one in _lines(folder / "records.jsonl", remedy))
    return Arm(records=records, **values)


def _arms(run: Path) -> tuple[Arm, ...]:
    remedy = f"run `litereason eval --run_dir {run}` first"
    folder = run / "eval"
    # a dotted folder is an evaluation under way: it is renamed when complete
    found = folder.is_dir() and [
        one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")
    ]
    if not found:
        raise DataError(f"{folder} holds no evaluated arm; {remedy}")
    arms = sorted((_arm(one, remedy) for one in found), key=lambda arm: arm_rank(arm.name))
    for before, after in itertools.pairwise(arms):
        if before.name == after.name:
            raise DataError(f"{folder}: two directories hold the arm {after.name!r}; remove one")
    if not all(arm.accuracy for arm in arms) and not all(arm.reward for arm in arms):
        raise DataError(
            f"{folder}: some arms have only an accuracy and others only a reward; "
            f"expected one metric that all have: {remedy}"
        )
    return tuple(arms)


def _comparisons(path: Path) -> tuple[Comparison, ...]:
    if not path.exists():
        return ()
    data = _parse(_read(path, ""), path)
    if not isinstance(data, list):
        raise DataError(f"{path}:1: expected a list of comparisons, got {data!r:.60}")
    found = []
    for index, one in enumerate(data):
        if not isinstance(one, dict):
            raise DataError(f"{path}:1: entry {index} is {one!r:.60}; expected a JSON object")
        row = _Fields(path, 1, one, f"entry {index}: ")
        names = (row.get(key, str) for key in ("a", "b", "metric"))
        figures = (float(row.get(key, *NUMBER)) for key in ("difference", "low", "high", "p"))
        found.append(Comparison(*names, *figures, items=row.get("items", int)))
    return tuple(found)


def _audit(path: Path) -> Audit:
    data = _parse(_read(path, ""), path)
    if not isinstance(data, dict):
        raise DataError(f"{path}:1: expected a JSON object, got {data!r:.60}")
    row = _Fields(path, 1, data)
    search = row.inner("search", null=True)
    twins, sizes = row.inner("duplicates"), row.inner("lengths")
    assert twins and sizes
    empty = sizes.inner("empty")
    assert empty

    def rule(one: _Fields) -> AuditRule:
        texts = (one.get(key, str) for key in ("text", "kind", "label_if"))
        return AuditRule(*texts, *(float(one.get(key, *NUMBER)) for key in ("accuracy", "p")))

    def probe(one: _Fields) -> AuditProbe:
        figures = (float(one.get(key, *NUMBER)) for key in ("accuracy", "majority", "p"))
        return AuditProbe(one.get("name", str), one.get("kind", str), *figures)

    return Audit(
        name=path.parent.name,
        leak=row.get("leak", bool),
        verdict=row.get("verdict", str),
        command=row.get("command", str),
        items=row.get("items", int),
        majority=row.get("majority", *NUMBER),
        leaks=tuple(map(rule, search.each("leaks"))) if search else (),
        best=tuple(map(rule, search.each("best"))) if search else (),
        probes=tuple(map(probe, search.each("probes"))) if search else (),
        families=twins.get("families", int),
        in_families=twins.get("items", int),
        across_splits=twins.get("across_splits", int),
        empty=empty.get("count", int),
        longest=sizes.get("longest_words", int),
    )


def _curves(stage: Path) -> dict[str, list[dict[str, float]]]:
    curves = {}
    for path in sorted(stage.glob("*/metrics.jsonl"), key=lambda one: arm_rank(one.parent.name)):
        rows = []
        for row in _lines(path, ""):
            row.get("step", *NUMBER)
            # a loss that overflowed is a gap in the curve, not a reason to have no report
            rows.append(
                {
                    key: float(value)
                    for key, value in row.data.items()
                    if type(value) in NUMBER and math.isfinite(value)
                }
            )
        if rows:
            curves[path.parent.name] = rows
    return curves


def _timings(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    data = _parse(_read(path, ""), path)
    if not isinstance(data, dict):
        raise DataError(f"{path}:1: expected an object of seconds, got {data!r:.60}")
    row = _Fields(path, 1, data)
    return {stage: float(row.get(stage, *NUMBER)) for stage in data}


def read_run(run: Path) -> Run:
    """Read everything the report shows.

    Raises:
        DataError: no arm was evaluated, or a file is broken (named with its line).
    """
    config = run / "config.yaml"
    return Run(
        path=run,
        arms=_arms(run),
        comparisons=_comparisons(run / "comparisons.json"),
        audits=tuple(map(_audit, sorted((run / "audit").glob("[!.]*/audit.json")))),
        curves={stage: _curves(run / stage) for stage in ("sft", "rl")},
        timings=_timings(run / "timings.json"),
        config=_read(config, "") if config.exists() else None,
    )
