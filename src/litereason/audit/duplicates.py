"""Near-duplicates: texts that share most of their five-word shingles, in families.

MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3)
finds candidate pairs, exact Jaccard similarity decides. A paraphrase shares no shingles and is not seen.
"""

from collections.abc import Sequence

import numpy as np

from litereason.audit.words import Words, words_of

SHINGLE = 5  # words
SIMILAR = 0.5  # Jaccard similarity from which two texts are near-duplicates
# 40 bands of 3: a pair at the threshold becomes a candidate with probability 99.5 %
BANDS, ROWS = 40, 3
# Candidates whose estimate is below this are not looked at: the estimate's error is about 0.045.
ESTIMATE = 0.35


def families(texts: Sequence[str]) -> list[int]:
    """The near-duplicate family of each text, numbered from 0 in order of appearance.

    Families are closed under similarity: variants of variants are in one family, so that splits made
    by family share no near-duplicates. Texts without words are families of their own.
    """
    return families_of(words_of(texts))


def families_of(words: Words) -> list[int]:
    """`families` of texts that were read as words before."""
    shingles = [_shingles(row) for row in words.rows]
    root = list(range(len(shingles)))

    def find(one: int) -> int:
        while root[one] != one:
            root[one] = root[root[one]]
            one = root[one]
        return one

    for a, b in _candidates(shingles):
        low, high = sorted((find(a), find(b)))
        if low != high and _jaccard(shingles[a], shingles[b]) >= SIMILAR:
            root[high] = low
    number: dict[int, int] = {}
    return [number.setdefault(find(one), len(number)) for one in range(len(root))]


def _shingles(row: np.ndarray) -> np.ndarray:
    """Distinct hashes of a text's shingles, sorted; a shorter text is one shingle."""
    size = min(SHINGLE, len(row))
    if not size:
        return np.zeros(0, dtype=np.uint64)
    hashed = np.zeros(len(row) - size + 1, dtype=np.uint64)
    for place in range(size):
        hashed = _mixed(hashed + row[place : len(row) - size + 1 + place].astype(np.uint64))
    return np.unique(hashed)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _candidates(shingles: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs that may be similar; of many alike, each is paired with its neighbour and the first."""
    full = np.array([i for i, row in enumerate(shingles) if len(row)])
    if len(full) < 2:
        return []
    odd = np.random.default_rng(0).integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * 2 + 1
    signatures = np.stack([_signature(shingles[i], odd) for i in full])
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        part = signatures[:, band * ROWS : (band + 1) * ROWS].astype(np.uint64)
        keys = _mixed(_mixed(_mixed(part[:, 0]) + part[:, 1]) + part[:, 2])
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        starts = np.flatnonzero(np.r_[True, ~same])
        first = order[np.repeat(starts, np.diff(np.r_[starts, len(order)]))][1:][same]
        for before in (first, order[:-1][same]):
            pairs.update(zip(before.tolist(), order[1:][same].tolist(), strict=True))
    if not pairs:
        return []
    found = np.array(sorted(pairs))
    close = np.concatenate(
        [
            (signatures[block[:, 0]] == signatures[block[:, 1]]).mean(1) >= ESTIMATE
            for block in np.array_split(found, len(found) // 10_000 + 1)
        ]
    )
    return [(int(full[a]), int(full[b])) for a, b in found[close]]


def _signature(shingles: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """The least hash of the shingles under each of many multiply-shift functions, shape `(len(odd),)`."""
    return ((shingles[:, None] * odd[None, :]) >> np.uint64(32)).min(0).astype(np.uint32)


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
