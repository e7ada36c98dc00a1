"""From a novel's lines to its chapters: which style its marks have, and whether their numbers are right.

The styles are tried in turn, and the first whose chapters hold most of the text is taken.

What is left out: how marks look (`marks`), and reading files (`novels`, `epub`).
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from litereason.books import marks as styles
from litereason.books.marks import BODY, FEWEST, PARTS, STEP, Entry, Line, Mark, has_text, words_in

COVER = 0.5  # share of the words that its chapters must hold


class Section(NamedTuple):
    """A chapter as lines, and the part that it stands in ("" if none)."""

    mark: Mark
    part: str
    lines: list[Line]


class Found(NamedTuple):
    """What `find_chapters` found.

    `apart` are labels and words of what stands in no chapter; `tried` is how many chapters each style
    found.
    """

    style: str
    chapters: list[Section]
    apart: list[tuple[str, int]]
    tried: dict[str, int]


def find_chapters(
    lines: Sequence[Line], contents: Sequence[Entry] = (), pattern: re.Pattern[str] | None = None
) -> Found:
    """The chapters of a novel, or none (`chapters` empty) if no style fits.

    Args:
        lines: the whole text.
        contents: where the file lists its chapters (an EPUB).
        pattern: lines that it matches from their start are the marks; nothing else is tried.
    """
    if pattern:
        ways = {"--chapter_mark": lambda: styles.matching(lines, pattern)}
    else:
        ways: dict[str, Callable[[], list[Mark]]] = {
            "headings": lambda: styles.headings(lines),
            "words": lambda: styles.scan(lines, styles.keyword),
            "numbers": lambda: _chain(styles.scan(lines, styles.bare, isolated=True)),
            "titles": lambda: styles.titled(lines, contents),
            "contents": lambda: styles.pointed(lines, contents),
            "parts": lambda: _parts_as_chapters(styles.scan(lines, styles.keyword)),
            "capitals": lambda: styles.capitals(lines),
        }
    total, tried = words_in(lines), {}
    for style, marks in ways.items():
        chapters, apart = _sections(lines, _without_contents(lines, marks()))
        whole = [c for c in chapters if words_in(c.lines) >= BODY]
        tried[style] = len(whole)
        covered = sum(words_in(c.lines) for c in whole)
        if chapters and (pattern or (len(whole) >= FEWEST and covered >= COVER * total)):
            return Found(style, chapters, apart, tried)
    return Found("", [], [], tried)


def gaps(marks: Sequence[tuple[str, str, int | None]]) -> list[str]:
    """What is wrong with a sequence of (part, kind, number): numbers that are missing or come again.

    Numbers start at 1, and go on or start again in a new part.
    """
    last: dict[str, tuple[str, int]] = {}
    wrong = []
    for part, kind, number in marks:
        if number is None:
            continue
        name = kind or "chapter"
        before_part, before = last.get(name, (part, 0))
        if number != before + 1 and not (number == 1 and part != before_part):
            after = f"after {name} {before}" if before else "at the start"
            wrong.append(f"{name} {number} comes {after}" + (f", in {part}" if part else ""))
        last[name] = (part, number)
    return wrong


def _chain(marks: list[Mark]) -> list[Mark]:
    """The longest run of numbers that counts up by one, with few gaps, and may start again at 1.

    Bare numbers stand in novels for other things too; those that break the sequence are no marks. Marks
    without a number stay.
    """
    numbered = [m for m in marks if m.number is not None and m.kind not in PARTS]
    best: list[tuple[float, int]] = []  # score of the best run that ends here, and its mark before
    for at, mark in enumerate(numbered):
        assert mark.number is not None
        score, back = (1.0, -1) if mark.number == 1 else (0.0, -1)
        for before in range(at):
            step = mark.number - (numbered[before].number or 0)
            again = mark.number == 1 and (numbered[before].number or 0) >= FEWEST
            if 1 <= step <= STEP or again:
                cost = 0.5 if again else 0.5 * (step - 1)
                score, back = max((score, back), (best[before][0] + 1 - cost, before))
        best.append((score, back))
    at = max(range(len(best)), key=lambda k: best[k][0], default=-1)
    kept = set()
    while at >= 0:
        kept.add(numbered[at].start)
        at = best[at][1]
    return [m for m in marks if m.start in kept or m.number is None or m.kind in PARTS]


def _kinds_of_parts(marks: Sequence[Mark]) -> list[str]:
    """In order of their first mark: a kind stands inside those that begin before it."""
    return list(dict.fromkeys(mark.kind for mark in marks if mark.kind in PARTS))


def _parts_as_chapters(marks: Sequence[Mark]) -> list[Mark]:
    """The innermost parts as the chapters of a novel that has no others."""
    innermost = _kinds_of_parts(marks)[-1:]
    return [
        dataclasses.replace(mark, kind="", number=None, title=mark.label)
        if mark.kind in innermost
        else mark
        for mark in marks
    ]


def _without_contents(lines: Sequence[Line], marks: list[Mark]) -> list[Mark]:
    """The marks without a list of them at the beginning, which has hardly any text between its lines.

    The list's last line may have anything after it (a preface), so it is known by its first one
    coming again.
    """

    def key(mark: Mark) -> tuple[str, object]:
        return mark.kind, mark.number if mark.number is not None else mark.title.casefold()

    for i, first in enumerate(marks):
        again = next((j for j in range(i + 2, len(marks)) if key(marks[j]) == key(first)), None)
        if again is None:
            continue
        inside = zip(marks[i:again], marks[i + 1 : again], strict=False)
        if all(words_in(lines[a.end : b.start]) < BODY / 2 for a, b in inside):
            return marks[:i] + marks[again:]
    return marks


def _sections(
    lines: Sequence[Line], marks: Sequence[Mark]
) -> tuple[list[Section], list[tuple[str, int]]]:
    """Chapters with the parts they stand in, and (label, words) of all that stands in none.

    A mark without any text after it (a cover, a picture's title) is no chapter.
    """
    kinds = _kinds_of_parts(marks)
    parts: dict[str, str] = {}
    chapters, apart = [], []
    before = words_in(lines[: marks[0].start] if marks else lines)
    if before:
        apart.append(("before the first mark", before))
    for k, mark in enumerate(marks):
        text = list(lines[mark.end : marks[k + 1].start if k + 1 < len(marks) else len(lines)])
        if mark.kind in PARTS or mark.kind == "untitled part":
            depth = kinds.index(mark.kind) if mark.kind in kinds else 0
            parts = {kind: label for kind, label in parts.items() if kind in kinds[:depth]}
            parts[mark.kind] = mark.label
        if mark.kind in (*PARTS, "untitled part", "apart"):
            if words := words_in(text):
                apart.append((mark.label, words))
        elif not has_text(text):
            apart.append((mark.label, 0))
        else:
            chapters.append(Section(mark, ", ".join(parts.values()), text))
    return chapters, apart
