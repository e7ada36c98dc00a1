"""What rules are worth, against what the best of them reaches when labels are shuffled.

The statistic is the accuracy of a rule with the best label on each side of it. Its p-value is corrected
for the whole search: the share of shuffled labellings under which *any* rule does as well (single-step
max-T; Westfall and Young, Resampling-Based Multiple Testing, 1993). Labels are shuffled by group.
"""

import numpy as np

from litereason.audit.rules import Rules

PERMUTATIONS = 1000
ALPHA = 0.01  # what counts as better than chance, after correction
BLOCK = 500  # rules at once


def permuted(labels: np.ndarray, groups: np.ndarray, times: int, seed: int = 0) -> np.ndarray:
    """The labels, then `times` shufflings of them, shape `(1 + times, items)`.

    Whole groups are shuffled: their labels, laid end to end in a random order of the groups (and of the
    items in each), are dealt to the items in the order of their own groups. Groups of one item give a
    plain shuffling, groups of equal size an exact shuffling of groups; else a few groups are split.

    Args:
        labels: a number from 0 for each item, shape `(items,)`.
        groups: the number of each item's group, shape `(items,)`.
    """
    chance = np.random.default_rng(seed)
    places = np.argsort(groups, kind="stable")
    found = np.empty((1 + times, len(labels)), dtype=np.int8)
    found[0] = labels
    for row in found[1:]:
        order = chance.permutation(groups.max() + 1)[groups] + chance.random(len(labels))
        row[places] = labels[np.argsort(order)]
    return found


def accuracies(rules: Rules, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies of all rules under the true labels, and of the best rule under each shuffling.

    Args:
        rules: R of them.
        labels: what `permuted` gives, shape `(1 + P, items)`.

    Returns:
        Accuracies `(R,)` and best accuracies `(P,)`.
    """
    totals = np.bincount(labels[0])
    true, best = np.zeros(len(rules.rules)), np.zeros(len(labels))
    step = max(1, 11_000_000 // rules.items)  # labellings at once: 44 MB of float32 for each label
    for start in range(0, len(labels), step):
        part = labels[start : start + step].T
        columns = [(part == label).astype(np.float32) for label in range(len(totals))]
        for first in range(0, len(rules.rules), BLOCK):
            found = _right(rules.holds(slice(first, first + BLOCK)), columns, totals) / rules.items
            if start == 0:
                true[first : first + BLOCK] = found[:, 0]
            best[start : start + step] = np.maximum(best[start : start + step], found.max(0))
    return true, best[1:]


def _right(holds: np.ndarray, columns: list[np.ndarray], totals: np.ndarray) -> np.ndarray:
    """Right answers of rules `(rules, labellings)`: the commonest label of each side of a rule.

    Sums of zeros and ones are exact in float32 up to 2**24 items.
    """
    shape = (len(holds), columns[0].shape[1])
    with_it, without = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for column, total in zip(columns, totals, strict=True):
        found = holds @ column
        np.maximum(with_it, found, out=with_it)
        np.maximum(without, total - found, out=without)
    return with_it + without


def p_values(true: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Corrected p-values `(R,)` of accuracies, by the best accuracies `(P,)` under shuffled labels."""
    reached = np.searchsorted(np.sort(best), true - 1e-9)
    return (len(best) - reached + 1) / (len(best) + 1)
