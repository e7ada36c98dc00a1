"""Chooses the items whose traces the page shows and cuts them into what the template draws.

The rule looks for items on which the arms differ, so what it finds is instructive, not typical;
the page says so, with the count of items on which all arms agreed.
"""

import dataclasses

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
    """A stretch of a trace: text, or a thought (its tag and its latent steps)."""

    text: str
    steps: int | None = None

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


def choose(run: Run) -> Choice:
    """Up to three items that every arm answered, those on which arms differ most first."""
    first: dict[str, dict[str, Record]] = {}
    for arm in run.arms:
        for record in sorted(arm.records, key=lambda one: one.sample, reverse=True):
            first.setdefault(record.item, {})[arm.name] = record
    common = {item: rows for item, rows in first.items() if len(rows) == len(run.arms)}
    main = [arm.name for arm in run.arms if not arm.ablation]
    outcomes = {
        item: tuple(_outcome(rows[name]) for name in main or rows) for item, rows in common.items()
    }
    ranked = sorted(common, key=lambda item: _rank(outcomes[item], common[item]), reverse=True)
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


def _outcome(record: Record) -> float:
    if record.correct is not None:
        return float(record.correct)
    return record.reward or 0.0


def _rank(outcomes: tuple[float, ...], rows: dict[str, Record]) -> tuple[float, bool]:
    """How evenly the arms disagree, then whether some arm had a thought."""
    mean = sum(outcomes) / len(outcomes)
    spread = sum((outcome - mean) ** 2 for outcome in outcomes)
    return spread, any(record.latent_steps for record in rows.values())


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
    pieces: list[Piece] = []
    length = cut = 0
    for kind, value in record.spans:
        if kind == "latent":
            # the steps belong to the tag before them; without one they stand alone
            if pieces and pieces[-1].steps == 0:
                pieces[-1] = Piece(pieces[-1].text, value)
            else:
                pieces.append(Piece("", value))
            continue
        kept = value[: max(0, limit - length)]
        length += len(value)
        cut += len(value) - len(kept)
        if kept:
            pieces.append(Piece(kept, 0 if kind == "tag" else None))
    return Trace(arm, record, tuple(pieces), cut)
