"""Texts as numbers, once for all searches: words, and characters by how common they are."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+")
# Characters beyond the commonest so many count as one, so that five of them fit in 64 bits.
ALPHABET = 4095


@dataclasses.dataclass(frozen=True)
class Words:
    """Words in lower case as numbers.

    Attributes:
        rows: for each text, the numbers of its words in order, shape `(words,)` each.
        names: the word of each number.
    """

    rows: list[np.ndarray]
    names: list[str]


@dataclasses.dataclass(frozen=True)
class Characters:
    """Characters as numbers from 1, the commonest first; 0 stands for all rare ones.

    Attributes:
        rows: for each text, its characters in order, shape `(characters,)` each.
        names: the character of each number.
    """

    rows: list[np.ndarray]
    names: str


def words_of(texts: Sequence[str]) -> Words:
    """Read texts as words; numbers are given in order of appearance."""
    known: dict[str, int] = {}
    rows = [
        np.array(
            [known.setdefault(word, len(known)) for word in WORD.findall(text.lower())],
            dtype=np.int32,
        )
        for text in texts
    ]
    return Words(rows, list(known))


def characters_of(texts: Sequence[str]) -> Characters:
    """Read texts as characters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    names = "\0" + "".join(char for char, _ in counts.most_common(ALPHABET))
    table = np.zeros(0x110000, dtype=np.uint16)
    table[_points(names)] = np.arange(len(names))
    table[0] = 0
    return Characters([table[_points(text)] for text in texts], names)


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
