"""A run directory read as arms x seeds x items.

A comparison holds an ordinary run directory a seed (`seed-0/`, `seed-1/`...). In it every arm must have
been judged alike under every seed, on the same items, samples, task and budget, or be marked as failed;
what differs is refused. An ordinary run directory is read as a comparison with one seed; there `eval` may
have judged arms on different items, and what they share is compared.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from litereason import cost, files
from litereason.compare.note import read_note
from litereason.errors import DataError
from litereason.records import VALUES, item_means
from litereason.run_dir import settings_in

# What every evaluation must have in common.
SAME = ("task", "task_options", "split", "limit", "max_new_tokens", "max_latent_steps")
SAME += ("temperature", "top_p", "top_k")

REMEDY = "Delete the arm's eval directory; the same `litereason eval` or `compare` makes it again"
# Fields of a record that figures are made from.
FIELDS: dict[str, Any] = {
    "item": str,
    "correct": (bool, NoneType),
    "reward": (int, float, NoneType),
    "discrete_tokens": int,
    "latent_steps": int,
    "thoughts": int,
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An arm under one seed: its summary and settings, and each item's samples and mean by metric."""

    place: str
    summary: dict[str, Any]
    settings: dict[str, Any]
    samples: dict[str, int]
    means: dict[str, dict[str, float]]

    @property
    def ablation(self) -> str | None:
        """What replaces the latents; `skip` when thoughts are offered and never taken."""
        skipped = self.summary.get("mode") == "latent" and self.settings.get("max_thoughts") == 0
        return self.summary.get("ablation") or ("skip" if skipped else None)


@dataclasses.dataclass
class ArmResults:
    """An arm: by seed its evaluations, why it failed, what it cost; `about` is its sentences.

    `answers` is what one answer takes once everything is trained, its prompt included.
    """

    about: dict[str, str]
    evaluations: dict[int, Evaluation] = dataclasses.field(default_factory=dict)
    failures: dict[int, str] = dataclasses.field(default_factory=dict)
    costs: dict[int, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    answers: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)

    def missing(self, seeds: Iterable[int]) -> list[int]:
        """The seeds under which it has no result and is not marked as failed."""
        return [s for s in seeds if s not in self.evaluations and s not in self.failures]

    @property
    def first(self) -> Evaluation | None:
        """The evaluation under the first seed that did not fail."""
        return next(iter(self.evaluations.values()), None)


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that was judged; arms in the order in which they are listed."""

    seeds: list[int]
    arms: dict[str, ArmResults]

    def evaluations(self) -> Iterator[Evaluation]:
        """All of them, by arm and seed."""
        for arm in self.arms.values():
            yield from arm.evaluations.values()

    def items(self) -> list[str]:
        """All items, in the order in which they were judged."""
        return list(dict.fromkeys(item for one in self.evaluations() for item in one.samples))

    def common(self, key: str) -> Any:
        """What all summaries say under `key`, or None if they differ."""
        values = [one.summary.get(key) for one in self.evaluations()]
        return values[0] if values and all(value == values[0] for value in values) else None


def read_results(
    run: Path, seeds: Sequence[int] | None = None, asked: Sequence[str] | None = None
) -> Results:
    """Read a comparison or an ordinary run directory.

    Args:
        seeds: of a comparison, those to read; None: all that are there.
        asked: arms that must have a result under all of them; others without are left out. None: all must.

    Raises:
        DataError: a broken file; or, in a comparison, arms that were not judged alike or an arm without a
            result under a seed. Names the arm, the seed and what differs.
    """
    found = [(path, re.fullmatch(r"seed-(\d+)", path.name)) for path in sorted(run.glob("seed-*"))]
    homes = {int(match[1]): path for path, match in found if match and path.is_dir()}
    if homes and seeds is not None:
        homes = {seed: homes[seed] for seed in seeds if seed in homes}
    seeds = sorted(homes) or [_seed_of(run)]
    arms = {name: ArmResults(about) for name, about in listed(run / "arms.json").items()}
    order = list(arms)
    for seed in seeds:
        _read_seed(arms, homes.get(seed, run), seed)
    order += sorted(arms.keys() - {*order})
    # a list may be of arms that are still to come
    judged = {name: arms[name] for name in order if arms[name].evaluations or arms[name].failures}
    if homes and asked is not None:
        judged = {k: arm for k, arm in judged.items() if k in asked or not arm.missing(seeds)}
    results = Results(seeds, judged)
    if homes:
        _check_complete(results)
        _check_origins(results)
        _check_alike(results)
    return results


def listed(path: Path) -> dict[str, dict[str, str]]:
    """What `arms.json` says of each arm; nothing if it is not there.

    Raises:
        DataError: it is broken.
    """
    try:
        known = files.read_json(path) if path.exists() else {}
    except DataError as error:
        known = str(error)
    if not isinstance(known, dict) or not all(_is_about(one) for one in known.values()):
        raise DataError(
            f"{path} is broken: expected an object of texts an arm. Delete it: the same `litereason "
            "compare` command writes it again"
        )
    return known


def _is_about(arm: Any) -> bool:
    return isinstance(arm, dict) and all(isinstance(text, (str, NoneType)) for text in arm.values())


def _seed_of(run: Path) -> int:
    """The seed that an ordinary run's summaries name; 0 if there is none."""
    summaries = sorted((run / "eval").glob("[!.]*/summary.json"))
    return _object(summaries[0]).get("seed", 0) if summaries else 0


def _read_seed(arms: dict[str, ArmResults], home: Path, seed: int) -> None:
    """Add what one run directory holds. What an arm that failed left behind is not read."""
    for path in sorted((home / "arms").glob("[!.]*.json")):
        told = read_note(path)
        arm = arms.setdefault(path.stem, ArmResults({}))
        if told["status"] == "failed":
            arm.failures[seed] = told.get("reason") or "no reason given"
        elif told["cost"]:
            arm.costs[seed] = told["cost"]
    for path in sorted((home / "eval").glob("[!.]*/summary.json")):
        arm = arms.setdefault(path.parent.name, ArmResults({}))
        if seed not in arm.failures:
            arm.evaluations[seed] = _evaluation(path.parent, seed)
            samples, spent = sum(arm.evaluations[seed].samples.values()), cost.read(path.parent)
            if samples and spent.forward_positions:
                arm.answers[seed] = {
                    "forward_positions": spent.forward_positions / samples,
                    "flops": spent.flops / samples,
                }


def _evaluation(directory: Path, seed: int) -> Evaluation:
    path = directory / "records.jsonl"
    samples: dict[str, int] = {}
    records = []
    try:
        found = files.numbered_jsonl(path)
    except DataError as error:
        raise DataError(f"{error}. {REMEDY}") from error
    for line, record in found:
        _check_record(record, f"{path}, line {line}")
        samples[record["item"]] = samples.get(record["item"], 0) + 1
        records.append(record)
    names = [*VALUES, *sorted({name for record in records for name in record.get("metrics", {})})]
    config = directory / "config.yaml"
    settings = settings_in(config) if config.exists() else {}
    return Evaluation(
        place=f"arm {directory.name!r} under seed {seed}",
        summary=_object(directory / "summary.json"),
        settings=settings,
        samples=samples,
        means={name: item_means(records, name) for name in names},
    )


def _check_record(record: dict[str, Any], where: str) -> None:
    for field, kinds in FIELDS.items():
        known = field in record and isinstance(record[field], kinds)
        if not known or (kinds is int and record[field] < 0):
            raise DataError(
                f"{where}: field {field!r} is {record.get(field, 'missing')!r:.60}. {REMEDY}"
            )


def _object(path: Path) -> dict[str, Any]:
    data = files.read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, got {data!r:.60}")
    return data


def _check_complete(results: Results) -> None:
    for name, arm in results.arms.items():
        if missing := arm.missing(results.seeds):
            raise DataError(
                f"arm {name!r} has no result under seed {missing[0]} and is not marked as failed. The same "
                "`litereason compare` command goes on where it stopped"
            )


def _check_origins(results: Results) -> None:
    """A copied directory would count one seed, or one arm, twice."""
    for name, arm in results.arms.items():
        for seed, one in arm.evaluations.items():
            was = one.summary.get("arm", name), one.summary.get("seed", seed)
            if was != (name, seed):
                raise DataError(
                    f"{one.place} is of arm {was[0]!r} and seed {was[1]}. Is it a copy? Delete "
                    "the arm's eval directory there (or the seed's, if all of it is a copy) and run "
                    "`litereason compare` again"
                )


def _check_alike(results: Results) -> None:
    """Every evaluation against the first."""
    found = list(results.evaluations())
    if bare := [one.place for one in found if not one.settings]:
        raise DataError(f"{bare[0]}: config.yaml is missing. {REMEDY}")
    for one in found[1:]:
        differ = [
            f"{key} {one.settings.get(key)!r} and not {found[0].settings.get(key)!r}"
            for key in SAME
            if one.settings.get(key) != found[0].settings.get(key)
        ]
        if apart := sorted(one.samples.keys() ^ found[0].samples.keys()):
            differ.append(
                f"{len(one.samples)} items and not {len(found[0].samples)} (only one side has "
                f"{', '.join(map(repr, apart[:3]))}{'...' if len(apart) > 3 else ''})"
            )
        elif uneven := [i for i, n in one.samples.items() if n != found[0].samples[i]]:
            item = uneven[0]
            differ.append(
                f"{one.samples[item]} samples of item {item!r} and not {found[0].samples[item]}"
            )
        if differ:
            raise DataError(
                f"{one.place} was judged otherwise than {found[0].place}: {'; '.join(differ)}. Arms are "
                "compared on the same items with the same budget: delete its eval directory and run "
                "`litereason compare` again"
            )
