"""A model and a task in; records and figures over items out."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import cost, files
from litereason.ablations import ablated
from litereason.generation import Completion
from litereason.inspection import latent_lens
from litereason.records import summarise
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids, sample, tags_of
from litereason.tasks.base import Example, Task, checked_metrics, scores


def completion_record(
    example: Example,
    completion: Completion,
    reward: float | None,
    lens: Sequence[Sequence[tuple[str, float]]] = (),
) -> dict[str, Any]:
    """What is kept of one completion; spans show every latent step.

    Args:
        lens: what the LM head would say at each latent step, if it was asked.
    """
    spans: list[list[Any]] = []
    said = iter(lens)
    for span in completion.spans:
        latent = span.kind == "latent"
        spans.append([span.kind, len(span.ids) if latent else span.text])
        if latent and lens:
            steps = itertools.islice(said, len(span.ids))
            spans[-1].append([[[text, round(p, 3)] for text, p in step] for step in steps])
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
    lens: int = 0,
) -> dict[str, Any]:
    """Sample every example, score, and write `records.jsonl`; returns the figures of the summary.

    Args:
        mode: prompt mode (`plain`, `latent`, `direct`).
        directory: where records go; an interrupted evaluation goes on from there.
        title: shown beside the progress bar.
        ablation: replace the latents (`litereason.ablations`).
        lens: of so many examples, keep what the LM head would say at each latent step.
    """
    prompts = [task.prompt(example, mode) for example in examples]
    encoded = [encode(tokenizer, prompt, tags_of(model)) for prompt in prompts]
    room = config.max_new_tokens + len(prefix_ids(model, tokenizer, config.prefix))
    check_lengths(model, [example.id for example in examples], encoded, room)

    def record(indices: list[int], completions: list[Completion]) -> list[dict[str, Any]]:
        chosen = [examples[i] for i in indices]
        rewards = scores(task, chosen, [completion.text for completion in completions])
        looks = [
            _lens(model, encoded[i], completion) if i < lens else []
            for i, completion in zip(indices, completions, strict=True)
        ]
        return [
            completion_record(example, completion, reward, look)
            | {"metrics": checked_metrics(task, example, completion.text), "prompt": prompts[i]}
            for i, example, completion, reward, look in zip(
                indices, chosen, completions, rewards, looks, strict=True
            )
        ]

    start = time.perf_counter()
    partial = directory / "records.partial.jsonl"
    with ablated(model, ablation):
        records = sample(model, tokenizer, encoded, config, record, partial, title)
    files.write_jsonl(directory / "records.jsonl", records)
    partial.unlink(missing_ok=True)
    lengths = [len(encoded[row["prompt_index"]]) for row in records]
    taken = time.perf_counter() - start
    cost.write(directory, cost.of_sampling(model, lengths, records, taken))
    return summarise(records)


def headline(figures: dict[str, Any]) -> str:
    """The main figures in one line."""
    parts = []
    if accuracy := figures["accuracy"]:
        low, high = 100 * accuracy["low"], 100 * accuracy["high"]
        parts.append(f"accuracy {100 * accuracy['mean']:.1f} % [{low:.1f}, {high:.1f}]")
    parts += [f"{name} {found['mean']:.3f}" for name, found in figures["metrics"].items() if found]
    parts.append(f"{figures['discrete_tokens']['mean']:.1f} discrete tokens")
    parts.append(f"{figures['latent_steps']['mean']:.1f} latent steps")
    parts.append(f"thoughts in {100 * figures['trigger_rate']['mean']:.0f} % of samples")
    return ", ".join(parts) + f" (n = {figures['items']} items)"


def _lens(model: Any, prompt: list[int], completion: Completion) -> list[list[tuple[str, float]]]:
    """What the LM head would say at the completion's latent steps, where tags announce them all."""
    kinds = [span.kind for span in completion.spans]
    steps = [k for k, kind in enumerate(kinds) if kind == "latent"]
    if not steps or any(k == 0 or kinds[k - 1] != "tag" for k in steps):
        return []
    return latent_lens(model, [*prompt, *completion.ids], start=len(prompt))
