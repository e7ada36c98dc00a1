"""Reads a run directory's files and checks every field that the page shows.

A broken file is named with its line here instead of failing in the template. What the figures mean
is left to `findings.py`; the arms are read by `arms.py`.
"""

import math
from pathlib import Path

from litereason.report.arms import homes_of, read_arms
from litereason.report.fields import NUMBER, Fields, read_lines, read_object, read_text
from litereason.report.run import Audit, AuditProbe, AuditRule, Run, arm_rank


def _audit(path: Path) -> Audit:
    row = read_object(path)
    search = row.inner("search", null=True)
    twins, sizes = row.inner("duplicates"), row.inner("lengths")
    assert twins and sizes
    empty = sizes.inner("empty")
    assert empty

    def rule(one: Fields) -> AuditRule:
        texts = (one.get(key, str) for key in ("text", "kind", "label_if"))
        return AuditRule(*texts, *(float(one.get(key, *NUMBER)) for key in ("accuracy", "p")))

    def probe(one: Fields) -> AuditProbe:
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


def _curves(homes: list[Path], stage: str) -> dict[str, list[list[dict[str, float]]]]:
    """What was logged in training: arm -> one list of rows a seed."""
    curves: dict[str, list[list[dict[str, float]]]] = {}
    for path in [path for home in homes for path in sorted((home / stage).glob("*/metrics.jsonl"))]:
        if rows := [_logged(row) for row in read_lines(path)]:
            curves.setdefault(path.parent.name, []).append(rows)
    return {name: curves[name] for name in sorted(curves, key=arm_rank)}


def _logged(row: Fields) -> dict[str, float]:
    row.get("step", *NUMBER)
    # a loss that overflowed is a gap in the curve, not a reason to have no report
    return {
        key: float(value)
        for key, value in row.data.items()
        if type(value) in NUMBER and math.isfinite(value)
    }


def read_run(run: Path) -> Run:
    """Read everything the report shows, of a comparison or of an ordinary run directory.

    Raises:
        DataError: no arm was evaluated or failed, or a file is broken (named with its line).
    """
    found = read_arms(run)
    homes = list(homes_of(run).values())
    audits = [path for home in {run: 0} | dict.fromkeys(homes) for path in _audits(home)]
    config = run / "config.yaml"
    return Run(
        path=run,
        task=found.task,
        split=found.split,
        seeds=found.seeds,
        arms=tuple(arm for arm in found.arms if arm.evaluations),
        failed=tuple(arm for arm in found.arms if arm.status != "done"),
        comparisons=found.comparisons,
        audits=tuple(map(_audit, audits)),
        curves={stage: _curves(homes, stage) for stage in ("sft", "rl")},
        config=read_text(config) if config.exists() else None,
    )


def _audits(home: Path) -> list[Path]:
    return sorted((home / "audit").glob("[!.]*/audit.json"))
