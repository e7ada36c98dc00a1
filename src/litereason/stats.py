"""Item-level statistics: intervals over items, not over repetitions, and paired differences.

A test set of 62 items sampled 10 times is 62 items (METHOD section 3, evaluation).
"""

import numpy as np

from litereason.errors import DataError

RESAMPLES = 10_000


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean with its 95 % percentile-bootstrap interval.

    Args:
        values: one value an item, shape `(items,)`: the mean over the item's samples.
        seed: of the resampling.

    Returns:
        `{"mean", "low", "high"}`.
    """
    values = np.asarray(values, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise DataError(
            f"{len(values)} values, {int((~np.isfinite(values)).sum())} of them not finite; expected "
            "at least one, all finite. Leave the others out and count them"
        )
    means = _resampled_means(values, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Difference a - b over the same items, with its 95 % interval and two-sided p-value.

    The p-value is that of a sign-flip permutation test: under no difference, each item's difference
    is as likely with the other sign.

    Args:
        a, b: one value an item, in the same order, shape `(items,)`.
        seed: of the resampling.
    """
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    found = interval(difference, seed)
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (RESAMPLES, len(difference)), dtype=np.int8) * 2 - 1
    flipped = np.abs((signs @ difference) / len(difference))
    extreme = int((flipped >= abs(found["mean"]) - 1e-12).sum())
    return {
        "difference": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "p": (extreme + 1) / (RESAMPLES + 1),
        "items": len(difference),
    }


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 1000):  # blocks, so that long test sets fit in memory
        drawn = rng.integers(0, len(values), (1000, len(values)))
        means[start : start + 1000] = values[drawn].mean(1)
    return means
