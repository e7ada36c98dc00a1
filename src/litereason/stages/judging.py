"""The last stage, `litereason eval`: records and figures of a model on a split."""

import dataclasses
import time
from pathlib import Path

from litereason import files
from litereason.ablations import check_ablation
from litereason.console import say
from litereason.errors import ConfigError
from litereason.options import command, option
from litereason.sampling import SamplingConfig
from litereason.stages.settings import StageConfig
from litereason.tasks.base import Example, Task


@dataclasses.dataclass(kw_only=True)
class EvalConfig(StageConfig, SamplingConfig):
    """Sample every item and report figures with item-level intervals."""

    split: str = option("test", "the task's split")
    samples: int = option(10, "completions per item")
    ablation: str | None = option(None, "replace latents: zeros, noise, other_row or init")
    title: str | None = option(None, "what the report calls this arm")
    lens: int = option(0, "keep what the LM head says at each latent step, for so many items")


def evaluate(config: EvalConfig) -> Path:
    """Write `records.jsonl` and `summary.json` of a model on a split."""
    check_ablation(config.ablation)
    if config.lens < 0:
        raise ConfigError(f"--lens is {config.lens}; expected 0 or more items")
    with config.open("eval") as opened:
        return judge(config, *opened)


def judge(config: EvalConfig, directory: Path, task: Task, examples: list[Example]) -> Path:
    """The same in the stage's directory."""
    from litereason.evaluate import evaluate as run
    from litereason.evaluate import headline

    out = directory / "summary.json"
    if out.exists():
        say(f"eval: already complete, {out}")
        return out
    config.warn_of(task, examples)
    start = time.perf_counter()
    model, tokenizer = config.load(latents=config.mode == "latent")
    title = f"eval {config.name}"
    place = (directory, title, config.ablation, config.lens)
    figures = run(model, tokenizer, task, examples, config.mode, config, *place)
    about = {
        "arm": config.name,
        "title": config.title or config.name,
        "task": config.task,
        "split": config.split,
        "model": config.model,
        "mode": config.mode,
        "ablation": config.ablation,
        "seed": config.seed,
        "seconds": round(time.perf_counter() - start, 2),
        "command": command("eval", config),
    }
    files.write_json(out, about | figures)
    say(f"eval {config.name}: {headline(figures)}")
    return out
