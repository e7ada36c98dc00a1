"""Stage 1, `litereason collect`: traces that earned a reward (arXiv 2512.02240, section 3)."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import cost, files
from litereason.console import say
from litereason.errors import DataError
from litereason.options import option
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids, sample, tags_of
from litereason.stages.settings import StageConfig
from litereason.tasks.base import Example, Task, scores


@dataclasses.dataclass(kw_only=True)
class CollectConfig(StageConfig, SamplingConfig):
    """Stage 1: sample traces and keep those that earn a reward."""

    demonstrations: bool = option(False, "take the task's own right traces; nothing is sampled")


def collect(config: CollectConfig) -> Path:
    """Sample `samples` completions a prompt; write those with reward above 0 to `traces.jsonl`."""
    with config.open("collect") as opened:
        return sample_traces(config, *opened)


def sample_traces(
    config: CollectConfig, directory: Path, task: Task, examples: list[Example]
) -> Path:
    """The same in the stage's directory."""
    out = directory / "traces.jsonl"
    if out.exists():
        say(f"collect: already complete, {out}")
        return out
    if config.demonstrations:
        return write_demonstrations(out, task, examples)
    start = time.perf_counter()
    model, tokenizer = config.load(latents=config.mode == "latent")
    prompts = [task.prompt(example, config.mode) for example in examples]
    encoded = [encode(tokenizer, prompt, tags_of(model)) for prompt in prompts]
    room = config.max_new_tokens + len(prefix_ids(model, tokenizer, config.prefix))
    check_lengths(model, [example.id for example in examples], encoded, room)

    def record(indices: list[int], completions: list[Any]) -> list[dict[str, Any]]:
        chosen, texts = [examples[i] for i in indices], [c.text for c in completions]
        rewards = scores(task, chosen, texts)
        return [
            {
                "item": example.id,
                "completion": done.text,
                "reward": reward,
                "discrete_tokens": done.discrete_tokens,
                "latent_steps": done.latent_steps,
            }
            for example, done, reward in zip(chosen, completions, rewards, strict=True)
        ]

    partial = directory / "samples.partial.jsonl"
    title = f"collect {config.name}"
    rows = sample(model, tokenizer, encoded, config, record, partial, title)
    kept = [row for row in rows if (row["reward"] or 0) > 0]
    if not kept:
        raise DataError(
            f"none of {len(rows)} samples earned a reward. Use a stronger model or an easier task, more "
            "--samples under another --name, or --demonstrations if the task has them"
        )
    fields = ("item", "sample", "completion", "reward")
    files.write_jsonl(out, [{field: row[field] for field in fields} for row in kept])
    files.write_json(directory / "summary.json", {"samples": len(rows), "kept": len(kept)})
    lengths = [len(encoded[row["prompt_index"]]) for row in rows]
    taken = time.perf_counter() - start
    cost.write(directory, cost.of_sampling(model, lengths, rows, taken))
    partial.unlink(missing_ok=True)
    say(f"collect: kept {len(kept)} of {len(rows)} samples, {out}")
    return out


def write_demonstrations(out: Path, task: Task, examples: Sequence[Example]) -> Path:
    """The task's own right completions as traces: a warm-up for models too small to earn any.

    Raises:
        DataError: the task has none.
    """
    made = {example.id: task.demonstration(example) for example in examples}
    rows = [{"item": name, "completion": text} for name, text in made.items() if text is not None]
    if not rows:
        raise DataError(f"task {task.name!r} has no demonstrations; leave --demonstrations out")
    return files.write_jsonl(out, rows)
