"""Where the names in a plot stand: beside their markers, clear of lines, markers and each other."""

import dataclasses
from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top
SHIFTS = (0, *(sign * step for step in range(14, 127, 14) for sign in (1, -1)))
GAP = 11  # between a marker's middle and its name
SWEEPS = 4  # names give way to each other so often


@dataclasses.dataclass(frozen=True)
class Name:
    """A name to place: its size, its marker's middle, and where the line left of that begins."""

    width: float
    height: float
    x: float
    y: float
    start: float


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a name stands: the side that is held fast (`left`, `right`, `center`), and where that is."""

    side: str
    x: float
    y: float

    def box(self, name: Name) -> Box:
        """What the name covers."""
        share = {"left": 0.0, "center": 0.5, "right": 1.0}[self.side]
        left, bottom = self.x - share * name.width, self.y - name.height / 2
        return left, bottom, left + name.width, bottom + name.height


def place(names: Sequence[Name], taken: Sequence[Box], frame: Box) -> list[Place]:
    """A place for each name, inside `frame`; those first that hit little and are near.

    Args:
        taken: what names should not cover.
    """
    found: list[Place | None] = [None] * len(names)
    for _ in range(SWEEPS):
        for index, name in enumerate(names):
            others = [other.box(names[i]) for i, other in enumerate(found) if other and i != index]
            found[index] = min(
                _places(name), key=lambda one: _cost(one, name, taken, others, frame)
            )
    return [one for one in found if one]


def _places(name: Name) -> Iterator[Place]:
    for shift in SHIFTS:
        yield Place("left", name.x + GAP, name.y + shift)
        yield Place("right", name.start - GAP, name.y + shift)
        if shift:
            yield Place("center", name.x, name.y + shift)


def _cost(one: Place, name: Name, taken: Sequence[Box], others: Sequence[Box], frame: Box) -> float:
    box = one.box(name)
    inside = frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]
    hit = sum(overlap(box, other) for other in taken) + 4 * sum(overlap(box, o) for o in others)
    return hit + 2 * abs(one.y - name.y) + (0 if inside else 1e6)


def overlap(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
