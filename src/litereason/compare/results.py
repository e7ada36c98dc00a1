"""What a comparison shows: figures of arms and paired differences, written to `comparison.json`.

All intervals come from one joint bootstrap (`stats.draws`): the same resampled items and the same weights
of seeds for every arm, metric and ratio. Each figure takes the items that all of its arms have a value for
under all seeds that they share: items that cannot be scored have no accuracy, and metrics of a task's own
may apply to some items only.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litereason import files, stats
from litereason.compare.pairs import pairs
from litereason.compare.read import ArmResults, Results, read_results
from litereason.errors import DataError
from litereason.records import VALUES

# What a mean can be: intervals end there.
RANGES = {
    "accuracy": (0.0, 1.0),
    "trigger_rate": (0.0, 1.0),
    "discrete_tokens": (0.0, np.inf),
    "total_tokens": (0.0, np.inf),
    "latent_steps": (0.0, np.inf),
    "characters": (0.0, np.inf),
}
LENGTHS = {"discrete": "discrete_tokens", "total": "total_tokens"}
# A column of values: (metric, arm), or (metric, arm, other arm) for the paired difference.
Column = tuple[str, ...]


def write_comparison(
    run: Path, seeds: Sequence[int] | None = None, asked: Sequence[str] | None = None
) -> Path:
    """Write `comparison.json` of a comparison or of an ordinary run directory.

    Args:
        seeds, asked: as for `read_results`.

    Raises:
        DataError: as `read_results`.
    """
    return _write(run, read_results(run, seeds, asked))


def rewrite_comparison(run: Path) -> Path:
    """The same, of the seeds and arms that it is of already.

    Raises:
        DataError: as `read_results`; or a seed that it is of is gone; or nothing is there.
    """
    path = run / "comparison.json"
    try:
        told = files.read_json(path) if path.exists() else {}
    except DataError:  # it is written anew
        told = {}
    seeds = asked = None
    if isinstance(told, dict) and any(run.glob("seed-*")) and told.get("arms"):
        seeds, asked = told.get("seeds"), list(told["arms"])
    for seed in seeds if isinstance(seeds, list) else ():
        if not (run / f"seed-{seed}").is_dir():
            raise DataError(
                f"{path} is of seeds {seeds}, and {run / f'seed-{seed}'} is missing. Put it back, or run "
                "`litereason compare` with --seeds that are there"
            )
    results = read_results(run, seeds, asked)
    if not results.arms:
        raise DataError(
            f"{run} holds no evaluated arm; expected the --run_dir of `litereason eval` or "
            "`litereason compare`"
        )
    return _write(run, results)


def _write(run: Path, results: Results) -> Path:
    return files.write_json(run / "comparison.json", comparison(results))


def comparison(results: Results) -> dict[str, Any]:
    """Figures of every arm, and paired differences with p-values corrected by `pairs`' families."""
    table = Table(results)
    judged = {name: arm for name, arm in results.arms.items() if arm.evaluations}
    samples = {count for one in results.evaluations() for count in one.samples.values()}
    figures = _figures(judged, table)
    ratios = _ratios(judged, table)
    front = _front(results, table)
    return {
        "task": results.common("task"),
        "split": results.common("split"),
        "items": len(table.items),
        "samples": samples.pop() if len(samples) == 1 else None,
        "seeds": results.seeds,
        "arms": {
            name: _about(name, arm, results.seeds)
            | {"figures": figures.get(name)}
            | ratios.get(name, {"saved": None, "recovered": None})
            | {"front": front.get(name), "cost": _means(arm.costs), "answer": _means(arm.answers)}
            for name, arm in results.arms.items()
        },
        "pairs": _pairs(judged, table),
    }


class Table:
    """Values of arms by seed and item, and what they show together."""

    def __init__(self, results: Results) -> None:
        self.seeds, self.items = results.seeds, results.items()
        self.arms = results.arms
        self._values: dict[Column, np.ndarray] = {}

    def values(self, column: Column) -> np.ndarray:
        """Means over samples, shape `(seeds, items)`; NaN where there is none."""
        if column not in self._values:
            metric, arm, *other = column
            if other:
                found = self.values((metric, arm)) - self.values((metric, other[0]))
            else:
                found = np.full((len(self.seeds), len(self.items)), np.nan)
                for row, seed in enumerate(self.seeds):
                    if seed in self.arms[arm].evaluations:
                        means = self.arms[arm].evaluations[seed].means.get(metric, {})
                        found[row] = [means.get(item, np.nan) for item in self.items]
            self._values[column] = found
        return self._values[column]

    def common(self, columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
        """Seeds under which all arms of the columns were judged; items with values in all of them."""
        arms = [self.arms[arm] for column in columns for arm in column[1:]]
        seeds = np.array([all(seed in arm.evaluations for arm in arms) for seed in self.seeds])
        missing = np.isnan([self.values(column)[seeds] for column in columns])
        return seeds, np.logical_and(~missing.any((0, 1)), seeds.any())

    def part(self, column: Column, seeds: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The column's values under some seeds for some items."""
        return self.values(column)[np.ix_(seeds, items)]

    def each(
        self, wanted: Mapping[Any, Sequence[Column]], statistic: Callable[[np.ndarray], np.ndarray]
    ) -> dict[Any, list[Any]]:
        """A statistic of the columns of each request over what these have in common.

        Requests with nothing in common are left out. Columns over the same seeds and items are computed
        in one go, once each.

        Args:
            statistic: `stats.draws` or `stats.sign_flips`: columns, which are its last axis, from values.
        """
        common = {name: self.common(columns) for name, columns in wanted.items()}
        groups: dict[bytes, list[Any]] = defaultdict(list)
        for name, (seeds, items) in common.items():
            if items.any():
                groups[seeds.tobytes() + items.tobytes()].append(name)
        found = {}
        for names in groups.values():
            columns = list(dict.fromkeys(column for name in names for column in wanted[name]))
            values = np.array([self.part(column, *common[names[0]]) for column in columns])
            of = dict(zip(columns, statistic(values).T, strict=True))
            found |= {name: [of[column] for column in wanted[name]] for name in names}
        return found


def _figures(judged: Mapping[str, ArmResults], table: Table) -> dict[str, dict[str, Any]]:
    """By arm and metric: mean with its interval, and the mean under each seed that it was judged under."""
    metrics = {arm: _metrics(one) for arm, one in judged.items()}
    wanted = {(arm, metric): [(metric, arm)] for arm in judged for metric in metrics[arm]}
    drawn = table.each(wanted, stats.draws)
    found: dict[str, dict[str, Any]] = {arm: {} for arm in judged}
    for arm, metric in wanted:
        if (arm, metric) not in drawn:
            found[arm][metric] = None
            continue
        figure = stats.estimate(drawn[arm, metric][0])
        low, high = RANGES.get(metric, (-np.inf, np.inf))
        figure |= {end: float(np.clip(figure[end], low, high)) for end in ("low", "high")}
        seeds, items = table.common([(metric, arm)])
        by_seed = table.part((metric, arm), seeds, items).mean(1)
        found[arm][metric] = figure | {"by_seed": by_seed.tolist()}
    return found


def _metrics(arm: ArmResults) -> list[str]:
    """All metrics that the arm's records have, the task's own last."""
    own = {metric for one in arm.evaluations.values() for metric in one.means}
    return [*VALUES, *sorted(own - VALUES.keys())]


def _ratios(judged: Mapping[str, ArmResults], table: Table) -> dict[str, dict[str, Any]]:
    """By arm: the share of tokens saved against base and rl, the share of RL's gain recovered."""
    lengths = {
        (arm, other, kind): [(metric, arm), (metric, other)]
        for arm in judged
        for other in ("base", "rl")
        for kind, metric in LENGTHS.items()
        if other in judged
    }
    gains = {
        arm: [("accuracy", arm, "base"), ("accuracy", "rl", "base")]
        for arm in judged
        if {"base", "rl"} <= judged.keys()
    }
    shares = {key: stats.saved(*drawn) for key, drawn in table.each(lengths, stats.draws).items()}
    recovered = {arm: stats.ratio(*drawn) for arm, drawn in table.each(gains, stats.draws).items()}

    def saved(arm: str, other: str) -> dict[str, Any] | None:
        found = {kind: shares.get((arm, other, kind)) for kind in LENGTHS}
        return found if all(found.values()) else None

    return {
        arm: {
            "saved": {other: saved(arm, other) for other in ("base", "rl")},
            "recovered": recovered.get(arm),
        }
        for arm in judged
    }


def _front(results: Results, table: Table) -> dict[str, float]:
    """By arm: the share of draws in which no other has no less accuracy for no more tokens.

    Ablations are left out, and so are arms without accuracy or that failed under a seed: all arms are
    drawn together, and must be there under every seed.
    """
    arms = [
        name
        for name, arm in results.arms.items()
        if arm.first is not None
        and arm.first.ablation is None
        and len(arm.evaluations) == len(results.seeds)
        and table.common([("accuracy", name)])[1].any()
    ]
    if not arms:
        return {}
    columns = [(metric, arm) for metric in ("accuracy", "total_tokens") for arm in arms]
    drawn = table.each({"front": columns}, stats.draws)
    if not drawn:
        return {}
    accuracy, tokens = np.split(np.array(drawn["front"])[:, 1:].T, 2, axis=1)
    shares = stats.on_front(accuracy, tokens).mean(0)
    return dict(zip(arms, shares.tolist(), strict=True))


def _pairs(judged: Mapping[str, ArmResults], table: Table) -> list[dict[str, Any]]:
    """Paired differences with intervals, p-values, and p-values corrected within their family."""
    ablations = {name: arm.first.ablation for name, arm in judged.items() if arm.first}
    variants = {name: of for name, arm in judged.items() if (of := arm.about.get("variant_of"))}
    wanted = {pair: [(pair[3], pair[1], pair[2])] for pair in pairs(ablations, variants)}
    drawn, p = table.each(wanted, stats.draws), table.each(wanted, stats.sign_flips)
    families: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for pair in wanted:
        if pair in drawn:
            families[pair[0], pair[3]].append(pair)
    found = []
    for family in families.values():
        corrected = stats.holm([p[pair][0] for pair in family])
        for pair, p_corrected in zip(family, corrected, strict=True):
            _, a, b, metric = pair
            seeds, items = table.common(wanted[pair])
            figure = stats.estimate(drawn[pair][0])
            found.append(
                {
                    "a": a,
                    "b": b,
                    "metric": metric,
                    "difference": figure["mean"],
                    "low": figure["low"],
                    "high": figure["high"],
                    "p": float(p[pair][0]),
                    "p_corrected": float(p_corrected),
                    "by_seed": table.part(wanted[pair][0], seeds, items).mean(1).tolist(),
                    "items": int(items.sum()),
                    "seeds": [
                        seed for seed, there in zip(table.seeds, seeds, strict=True) if there
                    ],
                }
            )
    return found


def _about(name: str, arm: ArmResults, seeds: Sequence[int]) -> dict[str, Any]:
    """What an arm is and how it ended."""
    first = arm.first
    told = set(arm.failures.values())
    reason = "; ".join(f"seed {seed}: {reason}" for seed, reason in arm.failures.items())
    return {
        "title": arm.about.get("title") or (first and first.summary.get("title")) or name,
        **{key: arm.about.get(key) for key in ("trains", "goes_latent", "costs")},
        "ablation": first and first.ablation,
        "status": "failed" if first is None else "partial" if arm.failures else "done",
        # one reason for all seeds is told once
        "reason": told.pop() if len(told) == 1 and first is None else reason or None,
        "seeds": [seed for seed in seeds if seed in arm.evaluations],
    }


def _means(costs: Mapping[int, Mapping[str, float | None]]) -> dict[str, float | None] | None:
    """Means over the seeds of what something cost, where it is known."""
    known: dict[str, list[float]] = defaultdict(list)
    for cost in costs.values():
        for name, value in cost.items():
            known[name] += [] if value is None else [value]
    means = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    return means or None
