"""A model and a task in; records and figures over items out."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.ablations import ablated
from litereason.generation import Completion
from litereason.inspection import latent_lens
from litereason.records import summarise
from litereason.sampling import SamplingConfig, check_lengths, encode, sample, tags_of
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
    check_lengths(model, [example.id for example in examples], encoded, config.max_new_tokens)

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

    partial = directory / "records.partial.jsonl"
    with ablated(model, ablation):
        records = sample(model, tokenizer, encoded, config, record, partial, title)
    files.write_jsonl(directory / "records.jsonl", records)
    partial.unlink(missing_ok=True)
    return summarise(records)


def _lens(model: Any, prompt: list[int], completion: Completion) -> list[list[tuple[str, float]]]:
    """What the LM head would say at the completion's latent steps, where tags announce them all."""
    kinds = [span.kind for span in completion.spans]
    steps = [k for k, kind in enumerate(kinds) if kind == "latent"]
    if not steps or any(k == 0 or kinds[k - 1] != "tag" for k in steps):
        return []
    return latent_lens(model, [*prompt, *completion.ids], start=len(prompt))
