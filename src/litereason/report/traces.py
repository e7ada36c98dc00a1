"""Chooses the items whose traces the page shows and cuts them into what the template draws.

The rule looks for items on which the arms differ, so what it finds is instructive, not typical;
the page says so, with the count of items on which all arms agreed.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from litereason.report.run import Arm, Record, Run

SHOWN = 3
# Characters an item may take, shared by its prompts and by its traces: the file must stay small.
# Longer texts are cut, and the page says so.
PROMPT_LIMIT, TEXT_LIMIT = 60_000, 150_000
# A trace longer than this scrolls in a box of its own.
LONG = 1_500
# More dots than this are written as a number.
DOTS = 40


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a trace: text, or a thought (its tag, its latent steps, what a lens saw there)."""

    text: str
    steps: int | None = None
    lens: Any = None

    @property
    def title(self) -> str:
        return f"thought of {self.steps} latent step{'' if self.steps == 1 else 's'}"

    @property
    def dots(self) -> str:
        steps = self.steps or 0
        return "●" * steps if steps <= DOTS else f"● × {steps}"


@dataclasses.dataclass(frozen=True)
class Trace:
    """One arm's sample of an item, ready to draw."""

    arm: Arm
    record: Record
    pieces: tuple[Piece, ...]
    cut: int

    @property
    def long(self) -> bool:
        return sum(len(piece.text) for piece in self.pieces) > LONG


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt, the arms that were given it, and its full length when it was cut."""

    text: str
    arms: tuple[str, ...]
    length: int


@dataclasses.dataclass(frozen=True)
class Item:
    """One item with every arm's first sample."""

    name: str
    label: str
    prompts: tuple[Prompt, ...]
    traces: tuple[Trace, ...]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen items, and how common disagreement was."""

    items: tuple[Item, ...]
    common: int
    differing: int


def first_samples(run: Run) -> dict[str, dict[tuple[str, int], Record]]:
    """item -> (arm, seed) -> the item's first sample."""
    found: dict[str, dict[tuple[str, int], Record]] = {}
    for arm in run.arms:
        for one in arm.evaluations:
            for record in one.records:
                rows = found.setdefault(record.item, {})
                if record.sample <= rows.get((arm.name, one.seed), record).sample:
                    rows[arm.name, one.seed] = record
    return found


def choose(run: Run) -> Choice:
    """Up to three items that every arm answered, those on which arms differ most first.

    Every arm is shown under the first seed that it was evaluated under.
    """
    shown = {(arm.name, arm.seeds[0]): arm.name for arm in run.arms}
    common = {}
    for item, rows in first_samples(run).items():
        by_arm = {shown[key]: record for key, record in rows.items() if key in shown}
        if len(by_arm) == len(run.arms):
            common[item] = by_arm
    main = [arm.name for arm in run.arms if not arm.ablation]
    outcomes = {
        item: tuple(outcome(rows[name]) for name in main or rows) for item, rows in common.items()
    }
    ranked = sorted(
        common,
        key=lambda item: (spread(outcomes[item]), _thinks(common[item].values())),
        reverse=True,
    )
    chosen: list[str] = []
    seen: set[tuple[float, ...]] = set()
    # first one item for each pattern of outcomes, so that the three tell different stories
    for item in ranked:
        if outcomes[item] not in seen and len(chosen) < SHOWN:
            seen.add(outcomes[item])
            chosen.append(item)
    chosen += [item for item in ranked if item not in chosen][: SHOWN - len(chosen)]
    return Choice(
        items=tuple(_item(run, item, common[item]) for item in chosen),
        common=len(common),
        differing=sum(len(set(pattern)) > 1 for pattern in outcomes.values()),
    )


def outcome(record: Record) -> float:
    """How an answer was judged: 1 or 0, or its reward."""
    if record.correct is not None:
        return float(record.correct)
    return record.reward or 0.0


def spread(outcomes: Sequence[float]) -> float:
    """How evenly outcomes disagree: the larger, the more."""
    mean = sum(outcomes) / len(outcomes)
    return sum((one - mean) ** 2 for one in outcomes)


def _thinks(records: Iterable[Record]) -> bool:
    return any(record.latent_steps for record in records)


def _item(run: Run, name: str, rows: dict[str, Record]) -> Item:
    prompts: dict[str, list[str]] = {}
    for arm in run.arms:
        prompts.setdefault(rows[arm.name].prompt, []).append(arm.title)
    limit = PROMPT_LIMIT // len(prompts)
    return Item(
        name=name,
        label=next(iter(rows.values())).label,
        prompts=tuple(
            Prompt(text[:limit], tuple(arms), len(text)) for text, arms in prompts.items()
        ),
        traces=tuple(_trace(arm, rows[arm.name], TEXT_LIMIT // len(run.arms)) for arm in run.arms),
    )


def _trace(arm: Arm, record: Record, limit: int) -> Trace:
    found, cut = pieces(record, limit)
    return Trace(arm, record, found, cut)


def pieces(record: Record, limit: int) -> tuple[tuple[Piece, ...], int]:
    """A record's stretches with at most `limit` characters of text, and how many are left out."""
    found: list[Piece] = []
    length = cut = 0
    for kind, value, lens in record.spans:
        if kind == "latent":
            # the steps belong to the tag before them; without one they stand alone
            tag = found.pop().text if found and found[-1].steps == 0 else ""
            found.append(Piece(tag, value, lens))
            continue
        kept = value[: max(0, limit - length)]
        length += len(value)
        cut += len(value) - len(kept)
        # a line break in front of a tag is no part of it: it would be an empty mark at the line's end
        tag = kept.lstrip() if kind == "tag" else ""
        space = kept[: len(kept) - len(tag)]
        found += [Piece(space, None)] if space else []
        found += [Piece(tag, 0)] if tag else []
    return tuple(found), cut
