"""A model and a task in; records, and a summary with intervals over items, out."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litereason import files, stats
from litereason.ablations import ablated
from litereason.generation import Completion
from litereason.sampling import SamplingConfig, check_lengths, encode, sample
from litereason.tasks.base import Example, Task, score


def completion_record(example: Example, completion: Completion, reward: float | None) -> dict[str, Any]:
    """What is kept of one completion; spans show every latent step."""
    spans: list[list[Any]] = [
        [s.kind, len(s.ids) if s.kind == "latent" else s.text] for s in completion.spans
    ]
    return {
        "item": example.id,
        "label": example.answer,
        "spans": spans,
        "reward": reward,
        "correct": None if reward is None else reward > 0,
        "discrete_tokens": completion.discrete_tokens,
        "latent_steps": completion.latent_steps,
        "thoughts": completion.thoughts,
        "truncated": completion.truncated,
    }


def evaluate(
    model: Any,
    tokenizer: Any,
    task: Task,
    examples: Sequence[Example],
    mode: str,
    config: SamplingConfig,
    directory: Path,
    title: str,
    ablation: str | None = None,
) -> dict[str, Any]:
    """Sample every example, score, and write `records.jsonl`; returns the figures of the summary.

    Args:
        mode: prompt mode (`plain`, `latent`, `direct`).
        directory: where records go; an interrupted evaluation goes on from there.
        title: shown beside the progress bar.
        ablation: replace the latents (`litereason.ablations`).
    """
    prompts = [task.prompt(example, mode) for example in examples]
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    check_lengths(model, [example.id for example in examples], encoded, config.max_new_tokens)

    def record(i: int, k: int, completion: Completion) -> dict[str, Any]:
        kept = completion_record(examples[i], completion, score(task, examples[i], completion.text))
        return kept | {"prompt": prompts[i]}

    partial = directory / "records.partial.jsonl"
    with ablated(model, ablation):
        records = sample(model, tokenizer, encoded, config, record, partial, title)
    files.write_jsonl(directory / "records.jsonl", records)
    partial.unlink(missing_ok=True)
    return summarise(records)


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over items with 95 % item-level bootstrap intervals (arXiv 2512.02240 has none).

    Completions that cannot be scored (`reward` None) are left out of accuracy and reward, and counted.
    """
    by_item: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_item[record["item"]].append(record)

    def over_items(value: Any) -> dict[str, float] | None:
        means = []
        for group in by_item.values():
            values = [v for v in map(value, group) if v is not None]
            if values:
                means.append(float(np.mean(values)))
        return stats.interval(np.array(means)) if means else None

    thoughts = sum(r["thoughts"] for r in records)
    return {
        "items": len(by_item),
        "samples": round(len(records) / len(by_item), 3),
        "accuracy": over_items(lambda r: None if r["correct"] is None else float(r["correct"])),
        "reward": over_items(lambda r: r["reward"]),
        "discrete_tokens": over_items(lambda r: r["discrete_tokens"]),
        "total_tokens": over_items(lambda r: r["discrete_tokens"] + r["latent_steps"]),
        "latent_steps": over_items(lambda r: r["latent_steps"]),
        "trigger_rate": over_items(lambda r: float(r["thoughts"] > 0)),
        "steps_per_thought": sum(r["latent_steps"] for r in records) / thoughts if thoughts else None,
        "truncated": float(np.mean([r["truncated"] for r in records])),
        "unscored": sum(r["reward"] is None for r in records),
    }


def item_means(path: Path, field: str) -> dict[str, float]:
    """Mean of a record field for each item of a `records.jsonl`."""
    values: dict[str, list[float]] = defaultdict(list)
    for record in files.read_jsonl(path):
        if record[field] is not None:
            values[record["item"]].append(float(record[field]))
    return {item: float(np.mean(found)) for item, found in values.items()}


def compare(a: Path, b: Path, field: str = "correct") -> dict[str, float]:
    """Paired difference of two evaluations (directories) over the items that both have."""
    left, right = (item_means(path / "records.jsonl", field) for path in (a, b))
    both = [item for item in left if item in right]
    return stats.paired(
        np.array([left[item] for item in both]), np.array([right[item] for item in both])
    )
