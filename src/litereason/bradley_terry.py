"""Bradley-Terry strengths of arms from pairwise judgements: pure functions, no files, no tables."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from litereason.errors import DataError
from litereason.extras import need

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a judge said of one comparison: `score` is 1 if text a won, 0 if b did, 0.5 for a tie."""

    id: str
    item: str
    a: str
    b: str
    score: float

    @property
    def pair(self) -> tuple[str, str]:
        """The two arms in order of their names, whichever was text a."""
        return (self.a, self.b) if self.a < self.b else (self.b, self.a)


def strengths(judged: Sequence[Judgement], seed: int = 0) -> dict[str, Any]:
    """Bradley-Terry strengths, win rates and position bias, with 95 % intervals clustered by item.

    A strength is on the logit scale, their mean is 0: arm i wins against j with probability
    1 / (1 + exp(s_j - s_i)) (Bradley & Terry 1952). A tie is half a win for each. One imaginary tie for
    each two arms that were compared keeps the strength of an arm that won everything finite. Items are
    drawn anew for the intervals, with all of their judgements. An interval is None where that tells
    nothing: all items agree, or there is one; and for strengths, where some arms won all against the
    others, so that only the imaginary ties bound them.

    Args:
        judged: at least one; chapters of one item may be compared many times.
        seed: of the resampling.

    Returns:
        `arms` by falling strength and `pairs`, each with figures as `{"mean", "low", "high"}`; `a_wins`
        (0.5: no position bias), counts.

    Raises:
        DataError: arms that no chain of comparisons links.
    """
    arms = sorted({arm for one in judged for arm in one.pair})
    pairs = sorted({one.pair for one in judged})
    check_linked(arms, pairs)
    wins, first = _resampled(judged, pairs, seed)
    places = np.array([[arms.index(arm) for arm in pair] for pair in pairs])
    fitted = np.stack([fit(won, places, len(arms)) for won in wins])
    bounded = both_ways(wins[0], places, len(arms))
    return {
        "arms": [
            {"arm": arms[arm], "strength": _estimate(fitted[:, arm], bool(bounded.all()))}
            | _record(judged, arms[arm])
            | {
                "win_rate": _share(
                    (wins * (places == arm)).sum((1, 2)), wins[:, (places == arm).any(1)]
                )
            }
            for arm in np.argsort(-fitted[0], kind="stable")
        ],
        "pairs": [
            {"a": pair[0], "b": pair[1], "judgements": round(wins[0, column].sum())}
            | {"win_rate": _share(wins[:, column, 0], wins[:, column])}
            | {"difference": _estimate(fitted[:, i] - fitted[:, j], bool(bounded[i, j]))}
            for column, (pair, (i, j)) in enumerate(zip(pairs, places, strict=True))
        ],
        "a_wins": _share(first[:, 0], first),
        "judgements": len(judged),
        "judged_comparisons": len({one.id for one in judged}),
        "items": len({one.item for one in judged}),
    }


def fit(wins: np.ndarray, places: np.ndarray, arms: int) -> np.ndarray:
    """Bradley-Terry strengths `(arms,)` of mean 0, by logistic regression without a penalty.

    Args:
        wins: of the first and the second arm of each pair, shape `(pairs, 2)`; one tie is added to each.
        places: which arms the pairs are of, shape `(pairs, 2)`.
        arms: how many there are.
    """
    regression = need("sklearn.linear_model", "write").LogisticRegression
    signs = np.eye(arms)[places[:, 0]] - np.eye(arms)[places[:, 1]]
    model = regression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=10_000)
    outcomes = np.repeat([1, 0], len(places))
    model.fit(np.tile(signs, (2, 1)), outcomes, sample_weight=(wins + 0.5).T.ravel())
    return model.coef_[0] - model.coef_[0].mean()


def both_ways(wins: np.ndarray, places: np.ndarray, arms: int) -> np.ndarray:
    """Between which arms chains of wins lead both ways, shape `(arms, arms)`.

    Only there the likelihood of their difference has a maximum without imaginary ties (Ford 1957).

    Args:
        wins, places: as for `fit`.
    """
    beats = np.eye(arms, dtype=bool)
    beats[places[:, 0], places[:, 1]] |= wins[:, 0] > 0
    beats[places[:, 1], places[:, 0]] |= wins[:, 1] > 0
    for _ in range(arms):
        beats = beats @ beats
    return beats & beats.T


def check_linked(arms: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    """Check that comparisons link all arms, directly or through others.

    Raises:
        DataError: they do not: strengths of arms apart have no common scale.
    """
    linked = {arms[0]}
    for _ in arms:
        linked |= {arm for pair in pairs if linked & {*pair} for arm in pair}
    if apart := sorted({*arms} - linked):
        raise DataError(
            f"no judgement links the arms {sorted(linked)} to {apart}: their strengths have no common "
            "scale. Judge a comparison across, or leave one side out"
        )


def _resampled(
    judged: Sequence[Judgement], pairs: Sequence[tuple[str, str]], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Wins in the data (first) and in resamples of its items.

    Returns:
        Wins of the first and of the second arm of each pair `(1 + RESAMPLES, pairs, 2)`, and of text a and
        of text b `(1 + RESAMPLES, 2)`.
    """
    items = sorted({one.item for one in judged})
    wins, first = np.zeros((len(items), len(pairs), 2)), np.zeros((len(items), 2))
    row_of = {item: row for row, item in enumerate(items)}
    column_of = {pair: column for column, pair in enumerate(pairs)}
    for one in judged:
        won = np.array([one.score, 1 - one.score])
        first[row_of[one.item]] += won
        turned = won if one.pair[0] == one.a else won[::-1]
        wins[row_of[one.item], column_of[one.pair]] += turned
    even = np.full(len(items), 1 / len(items))
    counts = np.random.default_rng(seed).multinomial(len(items), even, RESAMPLES)
    counts = np.concatenate([np.ones((1, len(items)), int), counts])
    return np.einsum("ri,ipw->rpw", counts, wins), counts @ first


def _record(judged: Sequence[Judgement], arm: str) -> dict[str, int]:
    """How often an arm was judged, and how often it neither won nor lost."""
    mine = [one for one in judged if arm in one.pair]
    return {"judgements": len(mine), "ties": sum(one.score == 0.5 for one in mine)}


def _share(won: np.ndarray, all_wins: np.ndarray) -> dict[str, float | None]:
    """Of resampled wins `(resamples,)`; resamples without a comparison say nothing."""
    played = all_wins.reshape(len(won), -1).sum(1)
    return _estimate(won[played > 0] / played[played > 0])


def _estimate(values: np.ndarray, bounded: bool = True) -> dict[str, float | None]:
    """The first value, which is that of the data, and the interval of the others, None if they are one."""
    mean, low, high = values[0], *np.percentile(values[1:], [2.5, 97.5])
    if not bounded or np.ptp(values) < 1e-9:
        return {"mean": float(mean), "low": None, "high": None}
    return {"mean": float(mean), "low": float(low), "high": float(high)}
