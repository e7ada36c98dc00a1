"""Item- and seed-level statistics: intervals, paired differences, ratios, the Pareto front.

A test set of 62 items sampled 10 times is 62 items (arXiv 2512.02240, evaluation), and an arm that was
trained with 3 seeds is 3 arms. Everything here takes one value an item and seed: the mean over the item's
samples. What the figures mean and what they cannot say is in `docs/statistics.md`.

Two levels of chance are drawn anew. *Items* are resampled, each with its answers under all seeds and arms.
*Seeds* get random weights that sum to 0 and have the tails of Student's t (`seed_weights`): resampling
two or three of them never leaves the range of what was seen, and calls one true null in four or five
significant where seeds matter. The noise of single answers is in the spread of the seeds; so that it
does not count twice, the items' part is scaled to what they share across seeds (`shared`). A few seeds
may agree by luck: no interval is narrower, and no p smaller, than that of items alone. With one seed
nothing can be said of seeds: what remains is the ordinary bootstrap over items.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from litereason.errors import DataError

RESAMPLES = 10_000
TINY = 1e-9  # figures that differ by less differ by rounding
BLOCK = 2**18  # items drawn at a time, so that long test sets fit in memory


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean with its 95 % percentile-bootstrap interval.

    Args:
        values: the mean over each item's samples, shape `(items,)` or `(seeds, items)`.
        seed: of the resampling.

    Returns:
        `{"mean", "low", "high"}`.
    """
    return estimate(draws(np.atleast_2d(values)[None], seed)[:, 0])


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Difference a - b over the same items and seeds, with its 95 % interval and two-sided p-value.

    Args:
        a, b: values in the same order, shape `(items,)` or `(seeds, items)`.
        seed: of the resampling.
    """
    column = np.atleast_2d(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))[None]
    found = estimate(draws(column, seed)[:, 0])
    return {
        "difference": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "p": float(sign_flips(column, seed)[0]),
        "items": column.shape[2],
    }


def draws(columns: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of columns under one joint two-level bootstrap: all columns share its items and weights.

    Args:
        columns: values, shape `(columns, seeds, items)`.
        seed: of the resampling.

    Returns:
        The means in the data (first) and in `RESAMPLES` resamples, shape `(1 + RESAMPLES, columns)`.

    Raises:
        DataError: no values, or some that are not finite.
    """
    columns, means, by_seed, by_item = _levels(columns)
    items = columns.shape[2]
    of_items = np.empty((RESAMPLES, len(columns)))
    rng = np.random.default_rng(seed)
    for rows in _blocks(items):
        drawn = rng.integers(0, items, (len(rows), items))
        drawn += items * np.arange(len(rows))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        of_items[rows] = counts.astype(float) @ by_item.T / items
    both = of_items * shared(columns) + seed_weights(columns.shape[1], seed) @ by_seed.T
    return means + np.vstack([np.zeros_like(means), _wider(both, of_items)])


def _wider(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two sets of draws `(resamples, columns)` the one with the wider interval, column by column."""
    a_width, b_width = (np.ptp(np.percentile(one, [2.5, 97.5], axis=0), axis=0) for one in (a, b))
    return np.where(a_width >= b_width, a, b)


def sign_flips(columns: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two-sided p-values of the means of columns of paired differences, shape `(columns,)`.

    Under no difference each item's difference, its mean over the seeds, is as likely with the other
    sign; and the mean over seeds still deviates by chance, as Student's t with its standard error
    (`seed_weights`). p is the share of draws of the sum of both that are as extreme as the data.
    Without seed effects to speak of this is the sign-flip permutation test, with large ones the t test
    over seeds; a null in between is rejected in at most about 5 % of cases (the two-variance problem of
    Behrens and Fisher, whose solution errs on this side). p is never smaller than that of the sign-flip
    test, which with one seed it is.

    Args:
        columns: differences, shape `(columns, seeds, items)`.
        seed: of the draws.
    """
    columns, means, by_seed, by_item = _levels(columns)
    items = columns.shape[2]
    # the differences themselves, not their deviations, change sign
    by_item = (by_item + means[:, None]).T
    of_seeds, kept = seed_weights(columns.shape[1], seed) @ by_seed.T, shared(columns)
    extreme = np.zeros((2, len(columns)), dtype=int)
    rng = np.random.default_rng(seed)
    for rows in _blocks(items):
        signs = rng.integers(0, 2, (len(rows), items), dtype=np.int8) * 2 - 1
        of_items = signs.astype(float) @ by_item / items
        for null, count in zip((of_items, of_items * kept + of_seeds[rows]), extreme, strict=True):
            count += (np.abs(null) >= np.abs(means) - TINY).sum(0)
    return (extreme.max(0) + 1) / (RESAMPLES + 1)


def seed_weights(seeds: int, seed: int = 0) -> np.ndarray:
    """Random weights of seeds, shape `(RESAMPLES, seeds)`; each draw's sum to 0.

    The weighted sum of any values of the seeds is distributed as their mean's standard error times
    Student's t with `seeds - 1` degrees of freedom: a multiplier bootstrap with Gaussian weights, each draw
    divided by a draw of the estimated spread. Its interval is the classical t interval.
    """
    if seeds == 1:
        return np.zeros((RESAMPLES, 1))
    rng = np.random.default_rng([seed, 1])  # apart from the items' draws, which so stay the same
    weights = rng.normal(size=(RESAMPLES, seeds))
    weights -= weights.mean(1, keepdims=True)
    spread = rng.chisquare(seeds - 1, (RESAMPLES, 1)) / (seeds - 1)
    return weights / np.sqrt(spread * seeds * (seeds - 1))


def shared(columns: np.ndarray) -> np.ndarray:
    """How much of the items' deviations seeds have in common, from 0 to 1, shape `(columns,)`.

    The square root of the share of the variance of items' means (over seeds) that is the items' own, by the
    two-way analysis of variance: the rest is the noise of single answers, divided by the seeds. 1 with
    one seed, where the two cannot be told apart.
    """
    columns, means, by_seed, by_item = _levels(columns)
    seeds = columns.shape[1]
    if seeds == 1:
        return np.ones(len(columns))
    noise = columns - means[:, None, None] - by_seed[:, :, None] - by_item[:, None]
    of_noise = (noise**2).sum((1, 2)) / (seeds * (seeds - 1))
    of_items = np.maximum((by_item**2).sum(1), TINY**2)
    return np.sqrt(np.maximum(0.0, 1 - of_noise / of_items))


def estimate(found: np.ndarray) -> dict[str, float]:
    """Of draws `(1 + resamples,)` the first, which is that of the data, and the interval of the rest."""
    low, high = np.percentile(found[1:], [2.5, 97.5])
    return {"mean": float(found[0]), "low": float(low), "high": float(high)}


def ratio(top: np.ndarray, bottom: np.ndarray) -> dict[str, float] | None:
    """Ratio of two figures drawn jointly, with its 95 % interval.

    None when the interval of `bottom` holds 0: then the ratio may be anything. Of the other draws the few
    whose `bottom` has the other sign are left out.

    Args:
        top, bottom: columns of `draws`, shape `(1 + resamples,)`.
    """
    below = estimate(bottom)
    if below["low"] <= 0 <= below["high"]:
        return None
    kept = bottom * bottom[0] > 0
    return estimate(top[kept] / bottom[kept])


def saved(ours: np.ndarray, other: np.ndarray) -> dict[str, float] | None:
    """Share of a length saved, 1 - ours / other, with its 95 % interval; None if `other` is 0.

    Deviations are taken relative to their means, on the scale of logarithms: no length is below 0 in any
    draw, even where few seeds leave much room.

    Args:
        ours, other: means of lengths, columns of `draws`, shape `(1 + resamples,)`.
    """
    if other[0] == 0 or ours[0] == 0:
        return None if other[0] == 0 else {"mean": 1.0, "low": 1.0, "high": 1.0}
    relative = ours / ours[0] - other / other[0]
    # t of one degree of freedom has draws beyond every bound
    return estimate(1 - ours[0] / other[0] * np.exp(np.minimum(relative, 700)))


def on_front(gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Which arms are on the Pareto front: none other has no less gain at no more cost and one better.

    Args:
        gain, cost: shape `(draws, arms)`.

    Returns:
        bool, shape `(draws, arms)`.
    """
    best = np.ones(gain.shape, dtype=bool)
    for arm in range(gain.shape[1]):
        more, less = gain - gain[:, [arm]], cost[:, [arm]] - cost
        better = (more > TINY) | (less > TINY)
        best[:, arm] = ~((more > -TINY) & (less > -TINY) & better).any(1)
    return best


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values of one family corrected by Holm's step-down method (Holm 1979), in the same order."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * (len(values) - np.arange(len(values)))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return corrected


def _levels(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns as floats, their means, and how the means of seeds and of items deviate from these."""
    columns = np.asarray(columns, dtype=float)
    if not columns.size or not np.isfinite(columns).all():
        raise DataError(
            f"{columns.size} values, {int((~np.isfinite(columns)).sum())} of them not finite; expected "
            "at least one, all finite. Leave the others out and count them"
        )
    means = columns.mean((1, 2))
    return columns, means, columns.mean(2) - means[:, None], columns.mean(1) - means[:, None]


def _blocks(items: int) -> Iterator[np.ndarray]:
    """Numbers of the resamples, some at a time: a multiple of 4, which draws of signs come in."""
    rows = max(4, BLOCK // items // 4 * 4)
    for start in range(0, RESAMPLES, rows):
        yield np.arange(start, min(start + rows, RESAMPLES))
