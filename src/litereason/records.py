"""Records of completions: figures over items. Imports no torch."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from litereason import stats

VALUES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "accuracy": lambda r: None if r["correct"] is None else float(r["correct"]),
    "reward": lambda r: r["reward"],
    "discrete_tokens": lambda r: r["discrete_tokens"],
    "total_tokens": lambda r: r["discrete_tokens"] + r["latent_steps"],
    "latent_steps": lambda r: r["latent_steps"],
    "trigger_rate": lambda r: float(r["thoughts"] > 0),
    # tags in full: a tokenizer that has a token for a tag hides how long it is for others
    "characters": lambda r: float(sum(len(s[1]) for s in r.get("spans", ()) if s[0] != "latent")),
}


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over items with 95 % item-level bootstrap intervals (arXiv 2512.02240, evaluation).

    Completions that cannot be scored (`reward` None) are left out of accuracy and reward, and counted.
    """
    thoughts = sum(record["thoughts"] for record in records)
    items = {record["item"] for record in records}
    figures: dict[str, Any] = {"items": len(items), "samples": round(len(records) / len(items))}
    for metric in VALUES:
        means = list(item_means(records, metric).values())
        figures[metric] = stats.interval(np.array(means)) if means else None
    latent_steps = sum(record["latent_steps"] for record in records)
    names = sorted({name for record in records for name in record.get("metrics", {})})
    return figures | {
        "metrics": {name: task_metric(records, name) for name in names},
        "steps_per_thought": latent_steps / thoughts if thoughts else None,
        "truncated": float(np.mean([record["truncated"] for record in records])),
        "unscored": sum(record["reward"] is None for record in records),
    }


def task_metric(records: Sequence[dict[str, Any]], name: str) -> dict[str, float] | None:
    """A metric of the task's own over the items that it applies to, and how many they are."""
    means = list(item_means(records, name).values())
    return stats.interval(np.array(means)) | {"items": len(means)} if means else None


def item_means(records: Sequence[dict[str, Any]], metric: str) -> dict[str, float]:
    """Mean of a metric over the samples of each item; items without a value are left out.

    `metric` is one of `VALUES`, or a metric of the task's own.
    """
    values: dict[str, list[float]] = defaultdict(list)
    value_of = VALUES.get(metric, lambda record: (record.get("metrics") or {}).get(metric))
    for record in records:
        value = value_of(record)
        if value is not None:
            values[record["item"]].append(value)
    return {item: float(np.mean(found)) for item, found in values.items()}
