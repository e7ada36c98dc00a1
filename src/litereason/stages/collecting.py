"""Stage 1, `litereason collect`: traces that earned a reward (arXiv 2512.02240, section 3)."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import cost, files
from litereason.console import say
from litereason.errors import ConfigError, DataError
from litereason.options import option
from litereason.pruning import prune
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids, sample, tags_of
from litereason.stages.settings import StageConfig
from litereason.tasks.base import Example, Task, scores

Row = dict[str, Any]
PARTIAL, SUMMARY = "samples.partial.jsonl", "summary.json"


@dataclasses.dataclass(kw_only=True)
class CollectConfig(StageConfig, SamplingConfig):
    """Stage 1: sample traces and keep those that earn a reward."""

    demonstrations: bool = option(False, "take the task's own right traces; nothing is sampled")
    prune: float | None = option(
        None, "leave out sentences of whose words this share (1: all) stands in one of the prompt's"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prune is not None and not 0 < self.prune <= 1:
            raise ConfigError(f"--prune is {self.prune}; expected a share above 0, at most 1")


def collect(config: CollectConfig) -> Path:
    """Write traces to `traces.jsonl`: sampled ones with a reward above 0, or the task's demonstrations."""
    with config.open("collect") as (directory, task, examples):
        out = directory / "traces.jsonl"
        if out.exists():
            say(f"collect: already complete, {out}")
            return out
        if config.demonstrations:
            rows = demonstrations(task, examples)
        else:
            rows = sampled(config, directory, task, examples)
        if config.prune is not None:
            rows = pruned(config, config.prune, directory, task, examples, rows)
        files.write_jsonl(out, rows)
        (directory / PARTIAL).unlink(missing_ok=True)
        say(f"collect: {len(rows)} traces, {out}")
        return out


def sampled(
    config: CollectConfig, directory: Path, task: Task, examples: list[Example]
) -> list[Row]:
    """`config.samples` completions a prompt, those with a reward above 0.

    Raises:
        DataError: there is none.
    """
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

    title = f"collect {config.name}"
    rows = sample(model, tokenizer, encoded, config, record, directory / PARTIAL, title)
    kept = [row for row in rows if (row["reward"] or 0) > 0]
    if not kept:
        raise DataError(
            f"none of {len(rows)} samples earned a reward. Use a stronger model or an easier task, more "
            "--samples under another --name, or --demonstrations if the task has them"
        )
    say(f"collect: kept {len(kept)} of {len(rows)} samples")
    files.write_json(directory / SUMMARY, {"samples": len(rows), "kept": len(kept)})
    lengths = [len(encoded[row["prompt_index"]]) for row in rows]
    taken = time.perf_counter() - start
    cost.write(directory, cost.of_sampling(model, lengths, rows, taken))
    fields = ("item", "sample", "completion", "reward")
    return [{field: row[field] for field in fields} for row in kept]


def demonstrations(task: Task, examples: Sequence[Example]) -> list[Row]:
    """The task's own right completions as traces: a warm-up for models too small to earn any.

    Raises:
        DataError: the task has none.
    """
    made = {example.id: task.demonstration(example) for example in examples}
    rows = [{"item": name, "completion": text} for name, text in made.items() if text is not None]
    if not rows:
        raise DataError(f"task {task.name!r} has no demonstrations; leave --demonstrations out")
    return rows


def pruned(
    config: CollectConfig,
    share: float,
    directory: Path,
    task: Task,
    examples: list[Example],
    rows: list[Row],
) -> list[Row]:
    """The same without the sentences that restate their prompts."""
    prompts = {example.id: task.prompt(example, config.mode) for example in examples}
    found = [prune(row["completion"], prompts[row["item"]], share) for row in rows]
    there, left_out = sum(n for _, n, _ in found), sum(n for _, _, n in found)
    path = directory / SUMMARY
    told = files.read_json(path) if path.exists() else {}
    files.write_json(path, told | {"sentences": there, "left_out": left_out})
    say(f"prune: left out {left_out} of {there} sentences")
    return [row | {"completion": text} for row, (text, _, _) in zip(rows, found, strict=True)]
