"""What a small classifier can tell from the format of a text, and from its words, on unseen groups.

Ridge regression on the features that the rules look at (Hoerl and Kennard 1970), in its kernel form: a fit
to a thousand shuffled labellings costs little more than one. Five folds by group.
"""

import dataclasses

import numpy as np

from litereason.audit.chance import BLOCK, p_values, permuted
from litereason.audit.rules import Counts, Rules

PERMUTATIONS = 200  # so the least p-value is 1 / 201
FOLDS = 5
ITEMS = 3000  # a fit costs the cube of them
PENALTY = 1.0  # times the mean square of an item's features


@dataclasses.dataclass(frozen=True)
class Probe:
    """How well labels are told.

    Attributes:
        name: what it looks at.
        kind: format or content.
        accuracy: over items of unseen groups.
        majority: share of the commonest label among the same items.
        p: share of shuffled labellings told as well; by any format probe, for format probes.
    """

    name: str
    kind: str
    accuracy: float
    majority: float
    p: float


def probe(rules: Rules, counts: Counts, labels: np.ndarray, groups: np.ndarray) -> list[Probe]:
    """Judge four probes on at most `ITEMS` items, taken by whole groups at random.

    Args:
        labels: a number from 0 for each item, shape `(items,)`.
        groups: the number of each item's group, shape `(items,)`.
    """
    order = np.random.default_rng(0).permutation(groups.max() + 1)[groups]
    items = np.sort(np.argsort(order, kind="stable")[:ITEMS])
    folds = order[items] % FOLDS
    shuffled = permuted(labels[items], groups[items], PERMUTATIONS, seed=1)
    looks = {
        ("lengths, punctuation and markup", "format"): _count_kernel(counts.values[:, items]),
        ("endings and beginnings", "format"): _kernel(rules, items, "ending", "beginning"),
        ("bag of words", "content"): _kernel(rules, items, "word"),
        ("character n-grams", "content"): _kernel(rules, items, "n-gram", "marks"),
    }
    scores = {look: _scores(kernel, shuffled, folds) for look, kernel in looks.items()}
    by_format = np.max([score for look, score in scores.items() if look[1] == "format"], axis=0)
    found = []
    for (name, kind), score in scores.items():
        rivals = by_format if kind == "format" else score
        p = float(p_values(score[:1], rivals[1:])[0])
        majority = float(np.bincount(labels[items]).max() / len(items))
        found.append(Probe(name, kind, float(score[0]), majority, p))
    return found


def _count_kernel(values: np.ndarray) -> np.ndarray:
    """Likeness of items by what is counted in them, shape `(items, items)`."""
    logs = np.log1p(values).astype(np.float32)
    logs -= logs.mean(1, keepdims=True)
    spread = logs.std(1, keepdims=True)
    logs /= np.where(spread > 0, spread, 1)
    return logs.T @ logs


def _kernel(rules: Rules, items: np.ndarray, *families: str) -> np.ndarray:
    """Likeness of items by which rules of some families hold, shape `(items, items)`."""
    which = rules.of(*families)
    kernel = np.zeros((len(items), len(items)), dtype=np.float32)
    for start in range(0, len(which), BLOCK):
        holds = rules.holds(which[start : start + BLOCK])[:, items]
        holds -= holds.mean(1, keepdims=True)
        kernel += holds.T @ holds
    return kernel


def _scores(kernel: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Accuracy on left-out folds under each labelling, shape `(labellings,)`.

    Args:
        kernel: likeness of items, shape `(items, items)`.
        labels: shape `(labellings, items)`.
        folds: the fold that each item is left out with, shape `(items,)`.
    """
    known = labels.max() + 1
    ridge = np.float32(PENALTY * np.trace(kernel) / len(kernel) or 1.0)
    right = np.zeros(len(labels))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        wanted = np.eye(known, dtype=np.float32)[labels[:, train].T]  # (train, labellings, known)
        mean = wanted.mean(0)
        inner = kernel[np.ix_(train, train)] + ridge * np.eye(len(train), dtype=np.float32)
        weights = np.linalg.solve(inner, (wanted - mean).reshape(len(train), -1))
        told = (kernel[np.ix_(test, train)] @ weights).reshape(len(test), *mean.shape) + mean
        right += (told.argmax(2) == labels[:, test].T).sum(0)
    return right / labels.shape[1]
