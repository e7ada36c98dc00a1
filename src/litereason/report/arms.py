"""Reads the arms: what was evaluated, seed by seed, and what `comparison.json` says of it.

A comparison has an ordinary run directory a seed (`seed-0/`...); an ordinary run is a comparison with
one seed. Without `comparison.json` an ordinary run's figures are those of its summaries, without pairs.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from litereason.errors import DataError
from litereason.report.fields import NUMBER, Fields, read_lines, read_object, read_text
from litereason.report.run import (
    FIGURES,
    LENGTHS,
    SCORES,
    Arm,
    Comparison,
    Evaluation,
    Record,
    Saved,
    arm_rank,
)

STATUSES = ("done", "failed", "partial")
STAGES = ("collect", "sft", "rl")


@dataclasses.dataclass(frozen=True)
class Arms:
    """All arms, failed ones too, in the order in which they are listed, and what compares them."""

    task: str
    split: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...] = ()


def homes_of(run: Path) -> dict[int | None, Path]:
    """The ordinary run directories: one a seed in a comparison, or the run itself under None."""
    named = [(re.fullmatch(r"seed-(\d+)", path.name), path) for path in run.glob("seed-*")]
    found = {int(match[1]): path for match, path in named if match and path.is_dir()}
    return {seed: found[seed] for seed in sorted(found)} or {None: run}


def read_arms(run: Path) -> Arms:
    """Every arm of the run.

    Raises:
        DataError: no arm was evaluated or failed; a file is broken (named with its line); arms without
            one score in common.
    """
    path, homes = run / "comparison.json", homes_of(run)
    if path.exists():
        found = _compared(read_object(path), homes)
    elif None in homes:
        found = _evaluated(run)
    else:
        raise DataError(
            f"{path}:1: the file is missing; run `litereason compare --run_dir {run}` first"
        )
    if not found.arms:
        raise _nothing(run)
    judged = [arm for arm in found.arms if arm.evaluations]
    if not any(all(arm.figures.get(score) for arm in judged) for score in SCORES):
        raise DataError(
            f"{run}: some arms have only an accuracy and others only a reward; expected one metric "
            "that all have. Evaluate them on one task"
        )
    return found


def _nothing(run: Path) -> DataError:
    if any(run.glob("seed-*")):
        return DataError(
            f"{run} holds no evaluated arm yet; its `litereason compare` command goes on"
        )
    return DataError(
        f"{run / 'eval'} holds no evaluated arm; run `litereason eval --run_dir {run}` first"
    )


def _folders(run: Path) -> list[Path]:
    """Where the arms of an ordinary run were evaluated; a dotted folder is one under way."""
    found = [path for path in (run / "eval").glob("[!.]*") if path.is_dir()]
    return sorted(found, key=lambda path: arm_rank(path.name))


def _evaluated(run: Path) -> Arms:
    """An ordinary run by its summaries."""
    found = [
        _evaluation(folder, f"run `litereason eval --run_dir {run}` first")
        for folder in _folders(run)
    ]
    if not found:
        raise _nothing(run)
    arms = [
        Arm(
            name=one.arm,
            title=one.title,
            evaluations=(one,),
            figures=one.figures,
            ablation=one.ablation,
            configs=_configs([run], one.arm),
        )
        for one in found
    ]
    seeds = tuple(dict.fromkeys(one.seed for one in found))
    return Arms(found[0].task, found[0].split, seeds, tuple(arms))


def _compared(row: Fields, homes: dict[int | None, Path]) -> Arms:
    """What `comparison.json` says, with the evaluations it speaks of."""
    inner = row.inner("arms")
    assert inner
    if None in homes:
        names = {folder.name for folder in _folders(homes[None])}
        if missing := sorted(names - inner.data.keys()):
            raise row.error(
                f"arm {missing[0]!r} is not in it but was evaluated; run "
                f"`litereason report --run_dir {homes[None]}`, which writes it anew"
            )
    # a comparison lists its arms in an order of its own
    listed = (row.path.parent / "arms.json").exists()
    names = list(inner.data) if listed else sorted(inner.data, key=arm_rank)
    arms = tuple(_arm(inner, name, homes) for name in names)
    judged = [one for arm in arms for one in arm.evaluations]
    # null where arms differ, which the page says
    task, split = (
        row.get(key, str, null=True) or next((getattr(one, key) for one in judged), "")
        for key in ("task", "split")
    )
    pairs = tuple(_comparison(one) for one in row.each("pairs"))
    return Arms(task, split, row.integers("seeds"), arms, pairs)


def _arm(row: Fields, name: str, homes: dict[int | None, Path]) -> Arm:
    inner = row.inner(name)
    assert inner
    status = inner.get("status", str)
    if status not in STATUSES:
        raise inner.error(f"field 'status' is {status!r}; expected {', '.join(STATUSES)}")
    seeds = inner.integers("seeds")
    again = "compare" if None not in homes else f"eval --run_dir {homes[None]}"
    remedy = f"run `litereason {again}` first"
    places = [homes[None]] * len(seeds) if None in homes else [homes.get(s) for s in seeds]
    if None in places:
        raise inner.error(f"field 'seeds' is {list(seeds)}; expected seeds that have a directory")
    evaluations = [_evaluation(home / "eval" / name, remedy) for home in places if home]
    texts = {key: inner.get(key, str, null=True) for key in ("trains", "goes_latent", "costs")}
    return Arm(
        name=name,
        title=inner.get("title", str),
        evaluations=tuple(evaluations),
        figures=_figures(inner) if evaluations else {},
        ablation=inner.get("ablation", str, null=True),
        **texts,
        status=status,
        reason=inner.get("reason", str, null=True),
        saved=_saved(inner),
        recovered=inner.estimate("recovered", null=True),
        front=inner.get("front", *NUMBER, null=True),
        cost=_cost(inner, "cost"),
        answer=_cost(inner, "answer"),
        configs=_configs(list(homes.values()), name),
    )


def _figures(row: Fields) -> dict[str, Any]:
    """An evaluated arm's figures; its lengths and one score are known."""
    inner = row.inner("figures")
    assert inner
    found = {metric: inner.estimate(metric, null=metric not in LENGTHS) for metric in FIGURES}
    if not any(found[score] for score in SCORES):
        raise inner.error("'accuracy' and 'reward' are both null; expected at least one")
    own = [metric for metric in inner.data if metric not in FIGURES]
    return found | {metric: inner.estimate(metric, null=True) for metric in own}


def _saved(row: Fields) -> dict[str, Saved | None]:
    found: dict[str, Saved | None] = {}
    inner = row.inner("saved", null=True)
    for other in inner.data if inner else ():
        shares = inner.inner(other, null=True) if inner else None
        estimates = [shares.estimate(kind) for kind in ("discrete", "total")] if shares else []
        found[other] = Saved(*[one for one in estimates if one]) if shares else None
    return found


def _cost(row: Fields, key: str) -> dict[str, float | None] | None:
    inner = row.inner(key, null=True)
    return inner and {name: inner.get(name, *NUMBER, null=True) for name in inner.data}


def _configs(homes: list[Path], name: str) -> dict[str, str]:
    """The settings of every stage that made the arm, by their place in the run directory."""
    found = {}
    for home in homes:
        made = home / "arms" / f"{name}.json"
        stages = read_object(made).get("stages", list) if made.exists() else []
        stages = [*(stages or [f"{stage}/{name}" for stage in STAGES]), f"eval/{name}"]
        for path in (home / str(stage) / "config.yaml" for stage in dict.fromkeys(stages)):
            if path.exists():
                found[path.relative_to(home.parent).as_posix()] = read_text(path)
    return found


def _comparison(row: Fields) -> Comparison:
    values: dict[str, Any] = {key: row.get(key, str) for key in ("a", "b", "metric")}
    for key in ("difference", "low", "high", "p", "p_corrected"):
        values[key] = float(row.get(key, *NUMBER))
    values |= {"items": row.get("items", int), "seeds": row.integers("seeds")}
    return Comparison(by_seed=row.numbers("by_seed"), **values)


def _evaluation(folder: Path, remedy: str) -> Evaluation:
    row = read_object(folder / "summary.json", remedy)
    values: dict[str, Any] = {key: row.get(key, str) for key in ("title", "task", "split", "model")}
    values["command"] = row.get("command", str)
    for key in ("items", "samples", "seed"):
        values[key] = row.get(key, int)
    for key in ("truncated", "seconds"):
        values[key] = row.get(key, *NUMBER)
    values["steps_per_thought"] = row.get("steps_per_thought", *NUMBER, null=True)
    values["ablation"] = row.get("ablation", str, null=True) if "ablation" in row.data else None
    figures = {key: row.estimate(key, null=key in SCORES) for key in FIGURES}
    if not any(figures[score] for score in SCORES):
        raise row.error("'accuracy' and 'reward' are both null; expected at least one")
    own = row.inner("metrics") if "metrics" in row.data else None
    if own:
        figures |= {name: own.estimate(name, null=True) for name in own.data}
    records = tuple(_record(one) for one in read_lines(folder / "records.jsonl", remedy))
    return Evaluation(arm=folder.name, figures=figures, records=records, **values)


def _record(row: Fields) -> Record:
    spans = tuple(_span(row, span) for span in row.get("spans", list))
    label = row.get("label", str, int, float, bool, null=True)
    return Record(
        item=str(row.get("item", str, int)),
        sample=row.get("sample", int),
        label="" if label is None else str(label),
        prompt=sys.intern(row.get("prompt", str)),  # arms and seeds share them
        spans=spans,
        reward=row.get("reward", *NUMBER, null=True),
        correct=row.get("correct", bool, null=True),
        discrete_tokens=row.get("discrete_tokens", int),
        latent_steps=row.get("latent_steps", int),
        thoughts=row.get("thoughts", int),
        truncated=row.get("truncated", bool),
    )


def _span(row: Fields, span: Any) -> tuple[str, Any, Any]:
    """(kind, text or steps, lens or None)."""
    fits = isinstance(span, list) and len(span) in (2, 3)
    kind: Any
    value: Any
    kind, value, lens = [*span, None][:3] if fits else (None, None, None)
    text = kind in ("discrete", "tag") and isinstance(value, str) and lens is None
    steps = kind == "latent" and type(value) is int and value >= 0
    if not (text or (steps and (lens is None or _is_lens(lens, value)))):
        raise row.error(
            f"span {span!r:.80} is none of ['discrete', text], ['tag', text], ['latent', steps], "
            "['latent', steps, one list of [token, probability] a step]"
        )
    return kind, value, lens


def _is_lens(lens: Any, steps: Any) -> bool:
    def said(one: Any) -> bool:
        return isinstance(one, list) and list(map(type, one)) in ([str, float], [str, int])

    return (
        isinstance(lens, list)
        and len(lens) == steps
        and all(isinstance(step, list) and all(map(said, step)) for step in lens)
    )
