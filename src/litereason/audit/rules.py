"""The simplest rules that could tell a label: each is a yes or no about a text, found without labels.

*Format* rules look at how a text begins and ends, its length, punctuation and markup; *content* rules at
one word or a few characters anywhere in it. Of each family those that divide the items most evenly are
kept, since a rule gains at most as many right answers as items on its smaller side. What a rule is
worth is left to `chance.py`.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from litereason.audit.words import Characters, Words

MOST = 3000  # rules of a family (and size of n-gram)
SAMPLE = 1000  # texts in which n-grams are looked for first
EDGES = (16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)  # characters; of rules alike the longest is kept
SIZES = (1, 2, 3, 5)  # characters of an n-gram; 5 of 12 bits fit in 64
MARKS = 40  # characters that are no letters or digits, and tags, which are counted
TAG = re.compile(r"<[^<>]*>")
MARKUP = re.compile(r"</?\w+|&#?\w+;")


@dataclasses.dataclass(frozen=True)
class Rule:
    """A yes or no about a text; `kind` is format or content."""

    kind: str
    family: str
    text: str


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules and the items that each holds for.

    Attributes:
        rules: what they say.
        bits: a row a rule, an item a bit, as `np.packbits` has it, shape `(rules, items / 8)`.
        items: how many items.
    """

    rules: list[Rule]
    bits: np.ndarray
    items: int

    def holds(self, which: slice | np.ndarray) -> np.ndarray:
        """Some rules against items as 0 and 1 in float32, shape `(rules, items)`."""
        return np.unpackbits(self.bits[which], axis=1, count=self.items).astype(np.float32)

    def of(self, *families: str) -> np.ndarray:
        """The numbers of the rules of some families."""
        return np.array([i for i, rule in enumerate(self.rules) if rule.family in families], int)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What is counted in texts: (family, name) and a row of counts each, shape `(names, items)`."""

    names: list[tuple[str, str]]
    values: np.ndarray


def find_rules(texts: Sequence[str], words: Words, characters: Characters, counts: Counts) -> Rules:
    """All rules that hold for some items and not for some others, at least `least` on each side."""
    items = len(texts)
    least = max(3, items // 200)
    rules: list[Rule] = []
    rows: list[np.ndarray] = []
    known: set[tuple[str, bytes]] = set()
    sources = (_edges(texts), _thresholds(counts), _words(words, least), _ngrams(characters, least))
    for source in sources:
        for rule, holds in source:
            if not least <= holds.sum() <= items - least:
                continue
            row = np.packbits(holds)
            if (key := (rule.family, row.tobytes())) not in known:  # the same items: the same rule
                known.add(key)
                rules.append(rule)
                rows.append(row)
    return Rules(
        rules, np.stack(rows) if rows else np.zeros((0, (items + 7) // 8), np.uint8), items
    )


Found = Iterator[tuple[Rule, np.ndarray]]


def _edges(texts: Sequence[str]) -> Found:
    """Beginnings and endings: the characters as they are, and without markup and space; words."""
    for family, does in (("ending", "ends"), ("beginning", "begins")):
        at_end = family == "ending"
        edges = [text[-2000:] if at_end else text[:2000] for text in texts]
        bare = [TAG.sub("", edge).strip() for edge in edges]
        runs = [_run(edge, at_end) for edge in bare]
        cuts: list[tuple[str, list[str]]] = [(f"{does} with a run of exactly", runs)]
        for size in EDGES:
            part = slice(-size, None) if at_end else slice(size)
            cuts.append((f"{does} with", [edge[part] for edge in edges]))
            cuts.append((f"{does}, but for markup, with", [edge[part] for edge in bare]))
        found = [re.findall(r"\w+", edge.lower()) for edge in bare]
        last = [(words[-1] if at_end else words[0]) if words else "" for words in found]
        cuts.append(("last word is" if at_end else "first word is", last))
        for says, values in cuts:
            for value, _ in Counter(values).most_common(MOST // len(cuts)):
                if value:
                    size = f" {len(value)}:" if "run" in says else ""
                    rule = Rule("format", family, f"{says}{size} {value!r}")
                    yield rule, np.array([one == value for one in values])


def _run(edge: str, at_end: bool) -> str:
    """The punctuation mark that a text ends (or begins) with, as often as it is repeated there."""
    mark = edge[-1:] if at_end else edge[:1]
    if not mark or mark.isalnum():
        return ""
    rest = edge.rstrip(mark) if at_end else edge.lstrip(mark)
    return mark * (len(edge) - len(rest))


def count(texts: Sequence[str], words: Words, characters: Characters) -> Counts:
    """Lengths, punctuation and markup of each text."""
    rows: dict[tuple[str, str], Sequence[int]] = {
        ("length", "characters"): [len(text) for text in texts],
        ("length", "words"): [len(row) for row in words.rows],
        ("length", "lines"): [text.count("\n") + 1 for text in texts],
    }
    names = characters.names
    tests: dict[str, Callable[[str], bool]] = {"capitals": str.isupper, "digits": str.isdigit}
    for name, test in tests.items():
        table = np.array([test(char) for char in names])
        rows["punctuation", name] = [int(table[row].sum()) for row in characters.rows]
    marks = [i for i, char in enumerate(names) if i and not char.isalnum()][:MARKS]
    each = [np.bincount(row, minlength=len(names))[marks] for row in characters.rows]
    for place, mark in enumerate(marks):
        rows["punctuation", f"× {names[mark]!r}"] = [int(row[place]) for row in each]
    tags = [Counter(MARKUP.findall(text)) for text in texts]
    usual = Counter(tag for found in tags for tag in found)
    for tag, _ in usual.most_common(MARKS):
        rows["markup", f"× {tag!r}"] = [found[tag] for found in tags]
    return Counts(list(rows), np.array(list(rows.values()), dtype=np.int64))


def _thresholds(counts: Counts) -> Found:
    """At least so many: once, and every twentieth part of the items."""
    for (family, name), row in zip(counts.names, counts.values, strict=True):
        levels = np.quantile(row, np.linspace(0.05, 0.95, 19), method="higher")
        for level in np.unique(np.r_[1, levels]).astype(int):
            yield Rule("format", family, f"at least {level} {name}"), row >= level


def _words(words: Words, least: int) -> Found:
    items, rows = len(words.rows), [np.unique(row) for row in words.rows]
    support = np.zeros(len(words.names), dtype=np.int64)
    for row in rows:
        support[row] += 1
    chosen = _evenest(support, items, least)
    place = np.full(len(words.names), len(chosen))
    place[chosen] = np.arange(len(chosen))
    holds = np.zeros((len(chosen) + 1, items), dtype=bool)  # the last row takes all other words
    for item, row in enumerate(rows):
        holds[place[row], item] = True
    for number, one in zip(chosen, holds, strict=False):
        yield Rule("content", "word", f"has the word {words.names[number]!r}"), one


def _ngrams(characters: Characters, least: int) -> Found:
    items = len(characters.rows)
    drawn = np.random.default_rng(0).permutation(items)[:SAMPLE]
    for size in SIZES:
        seen = [np.unique(_codes(characters.rows[item], size)) for item in drawn]
        grams, support = np.unique(np.concatenate(seen), return_counts=True)
        # where a sample was looked at, a gram at the bound may have less support in it
        grams = np.sort(grams[_evenest(support, len(drawn), max(1, least * len(drawn) // items))])
        if not len(grams):
            continue
        holds = np.zeros((len(grams), items), dtype=bool)
        for item, row in enumerate(characters.rows):
            codes = _codes(row, size)
            place = np.minimum(np.searchsorted(grams, codes), len(grams) - 1)
            holds[place[grams[place] == codes], item] = True
        for gram, one in zip(grams.tolist(), holds, strict=True):
            places = [(gram >> 12 * i) & 0xFFF for i in range(size)]
            if 0 in places:  # a rare character: it has no name
                continue
            text = "".join(characters.names[place] for place in places)
            if any(char.isalnum() for char in text):
                yield Rule("content", "n-gram", f"has {text!r}"), one
            else:
                yield Rule("format", "marks", f"has {text!r}"), one


def _codes(row: np.ndarray, size: int) -> np.ndarray:
    """Every run of `size` characters as one number."""
    if len(row) < size:
        return np.zeros(0, dtype=np.uint64)
    codes = np.zeros(len(row) - size + 1, dtype=np.uint64)
    for place in range(size):
        part = row[place : len(row) - size + 1 + place].astype(np.uint64)
        codes |= part << np.uint64(12 * place)
    return codes


def _evenest(support: np.ndarray, items: int, least: int) -> np.ndarray:
    """The numbers of what divides the items most evenly, `MOST` of them."""
    smaller = np.minimum(support, items - support)
    order = np.argsort(-smaller, kind="stable")[:MOST]
    return order[smaller[order] >= least]
