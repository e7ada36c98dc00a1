"""Generated plot-hole stories: who holds what, and, in half of them, one sentence that cannot be.

People own one object each and trade, travel, use what they hold; in half the stories somebody dies
and is buried. Only trades change who holds what. One target sentence a story is drawn, and a fair coin
decides whether it is corrupted: somebody uses an object that another one holds, or the dead act.
Everything else is distributed alike with and without the error, so that no surface cue tells the label
(`tests/test_stories.py` holds probes against it). The text is ordinary English, a sentence a line.
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterator
from typing import Any

from litereason.errors import ConfigError

NAMES = ["Mara", "Tobin", "Ilse", "Bram", "Nessa", "Otto"]
OBJECTS = ["lantern", "rope", "key", "dagger", "map", "flute"]
PLACES = ["mill", "inn", "barn", "tower", "cellar", "chapel"]
GO = ["went to the", "walked to the", "travelled to the"]
USE = ["used the", "held up the", "showed the"]
TRADE = ["traded their things.", "swapped their things."]
BURY = ["buried", "mourned"]

# Share of all stories a split takes, by a hash of the text: splits are disjoint by construction.
SPLITS = {"train": range(0, 80), "validation": range(80, 90), "test": range(90, 100)}
TRADES_PER_JOURNEY = 4
DEATH = 0.5  # share of stories in which somebody dies
DEAD_ACTS = 0.25  # share of target sentences that test a death, where there is one


@dataclasses.dataclass(frozen=True)
class Event:
    """`kind` is own, go, trade, use, die or bury; `who` acts; `what` is an object, place or person."""

    kind: str
    who: str
    what: str = ""


@dataclasses.dataclass(frozen=True)
class Story:
    """One story with its answer.

    Attributes:
        events: what happens, in order.
        sentences: the same in English, numbered from 1.
        error: index of the sentence that cannot be, or None.
        contradicted: index of the earlier sentence that it contradicts, or None.
        every: True if errors were strewn over all uses (training only; see `make_story`).
    """

    events: tuple[Event, ...]
    sentences: tuple[str, ...]
    error: int | None
    contradicted: int | None
    every: bool = False

    @property
    def label(self) -> str:
        """`Yes` if the story holds a continuity error."""
        return "No" if self.error is None else "Yes"

    @property
    def text(self) -> str:
        """The numbered sentences, each on a line of its own."""
        return "".join(f"\n{i}. {s}" for i, s in enumerate(self.sentences, 1))


def make_story(
    rng: random.Random,
    characters: int = 3,
    events: int = 8,
    label: bool | None = None,
    error_rate: float = 0.0,
    journeys: int = 0,
) -> Story:
    """One story. Characters and events set the difficulty, journeys the length.

    Args:
        rng: the source of all choices.
        characters: 2 to 6.
        events: 1 to 18, the opening sentences not counted.
        label: whether it holds an error; a fair coin by default.
        error_rate: if above 0, every use is wrong with this chance, instead of one target: denser
            lessons for a model that starts from nothing.
        journeys: 0 to 200 more sentences, strewn over the story, that change nothing.

    Raises:
        ConfigError: characters, events or journeys out of range.
    """
    if not 2 <= characters <= len(NAMES) or not 1 <= events <= 18:
        raise ConfigError(
            f"characters={characters}, events={events}; expected 2 to {len(NAMES)} and 1 to 18"
        )
    if not 0 <= journeys <= 200:
        raise ConfigError(f"journeys={journeys}; expected 0 to 200")
    people = rng.sample(NAMES, characters)
    owns = dict(zip(people, rng.sample(OBJECTS, characters), strict=True))
    flawed = rng.random() < 0.5 if label is None else label
    plan = _plan(rng, characters, events)
    while plan is None:
        plan = _plan(rng, characters, events)
    kinds, target = _travelling(rng, *plan, journeys)
    told = [Event("own", who, what) for who, what in owns.items()]
    dead: str | None = None
    error: int | None = None
    contradicted: int | None = None
    since = {who: i for i, who in enumerate(people)}  # the sentence that set what each one holds
    for i, kind in enumerate(kinds):
        alive = [p for p in people if p != dead]
        who = rng.choice(alive)
        other = rng.choice([p for p in alive if p != who])
        dead_act = i == target and kind != "use"
        wrong = flawed and i == target
        if error_rate and not dead_act:
            wrong = kind == "use" and rng.random() < error_rate
        if wrong and dead_act and dead:
            who = dead
        if wrong and error is None:
            error, contradicted = len(told), since[who]
        what = owns[who]
        if wrong and kind == "use":
            what = owns[rng.choice([p for p in alive if p != who])]
        told.append(_event(rng, kind, who, other, dead, what))
        if kind == "trade" and who != dead:
            owns[who], owns[other] = owns[other], owns[who]
            since[who] = since[other] = len(told) - 1
        elif kind == "die":
            dead, since[who] = who, len(told) - 1
    sentences = tuple(_english(rng, event) for event in told)
    return Story(tuple(told), sentences, error, contradicted, bool(error_rate))


def stories(split: str, count: int, seed: int = 0, **options: Any) -> Iterator[Story]:
    """`count` stories of a split, the same for the same seed; splits share none.

    Raises:
        ConfigError: no such split.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; expected one of {sorted(SPLITS)}")
    rng = random.Random(f"{split}-{seed}")
    while count:
        story = make_story(rng, **options)
        if split_of(story.text) == split:
            yield story
            count -= 1


def split_of(text: str) -> str:
    """The split that a story's text belongs to."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def _plan(rng: random.Random, characters: int, events: int) -> tuple[list[str], int] | None:
    """The kinds of events and the index of the target; None if the draw has no place for one."""
    kinds = ["use"] * min(rng.choice([2, 3]), max(1, events // 2))
    death = rng.random() < DEATH and characters >= 3 and events >= 4
    if death:
        kinds += ["die", "bury"]
    rest = max(0, events - len(kinds))
    kinds += rng.choices(["go", "trade"], [1, TRADES_PER_JOURNEY], k=rest)
    rng.shuffle(kinds)
    after: list[int] = []
    if death:
        die, bury = sorted([kinds.index("die"), kinds.index("bury")])
        kinds[die], kinds[bury] = "die", "bury"
        after = [i for i in range(die + 1, events) if kinds[i] not in ("bury", "use")]
    trades_before = 2 if events >= 6 else int(events >= 3)
    uses = [
        i
        for i, kind in enumerate(kinds)
        if kind == "use" and kinds[:i].count("trade") >= trades_before
    ]
    if not uses:
        return None
    if after and rng.random() < DEAD_ACTS:
        return kinds, rng.choice(after)
    return kinds, rng.choice(uses)


def _travelling(
    rng: random.Random, kinds: list[str], target: int, journeys: int
) -> tuple[list[str], int]:
    """`kinds` with `journeys` more journeys at random places, and where the target is now."""
    kinds = list(kinds)
    for _ in range(journeys):
        place = rng.randint(0, len(kinds))
        kinds.insert(place, "go")
        target += place <= target
    return kinds, target


def _event(
    rng: random.Random, kind: str, who: str, other: str, dead: str | None, what: str
) -> Event:
    if kind == "go":
        return Event("go", who, rng.choice(PLACES))
    patient = {"trade": other, "die": "", "bury": dead or "", "use": what}[kind]
    return Event(kind, who, patient)


def _english(rng: random.Random, event: Event) -> str:
    if event.kind == "own":
        return f"{event.who} owned the {event.what} at first."
    if event.kind == "go":
        return f"{event.who} {rng.choice(GO)} {event.what}."
    if event.kind == "trade":
        return f"{event.who} and {event.what} {rng.choice(TRADE)}"
    if event.kind == "die":
        return f"{event.who} died."
    if event.kind == "bury":
        return f"{event.who} {rng.choice(BURY)} {event.what} in tears."
    return f"{event.who} {rng.choice(USE)} {event.what} again."
