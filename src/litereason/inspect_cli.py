"""`litereason inspect`: a table of latent steps for people, and the same as JSON for programs."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from litereason import files
from litereason.errors import ConfigError, DataError
from litereason.inspection import LatentStep, Skipped, inspect_latents, skipped_probability
from litereason.options import option
from litereason.sampling import (
    SamplingConfig,
    check_lengths,
    encode,
    generate_batch,
    prefix_ids,
)
from litereason.stages import ModelOnTask
from litereason.streaming import dotted
from litereason.traces import MAX_PROMPTED_STEPS, read_traces, replaceable, split_sentences


@dataclasses.dataclass(kw_only=True)
class InspectConfig(ModelOnTask):
    """Show what each latent step says, lies near to, and stands for."""

    prompt: str | None = option(None, "the user's message")
    prefix: str = option("", "what the answer starts with; without a tag in it the model writes on")
    skipped: str | None = option(None, "the sentence that the prefix's last thought stands for")
    traces: str | None = option(None, "or: a traces.jsonl; a sentence of each becomes a thought")
    rows: int = option(3, "so many of the traces")
    steps: int | None = option(None, "latent steps of each of them; default: a fifth of its tokens")
    top: int = option(5, "how many tokens to name")
    max_new_tokens: int = option(256, "positions to write where the prefix holds no thought")
    out: str | None = option(None, "write the same as JSON to this file")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.prompt is None) == (self.traces is None):
            raise ConfigError("give either --prompt or --traces")
        if self.prompt is not None and not self.prompt.strip():
            raise ConfigError("--prompt is empty; give the message to answer")
        if self.skipped is not None and self.prompt is not None and not self.prefix:
            raise ConfigError(
                "--skipped needs a --prefix that ends with the tag that stands for it"
            )
        if self.skipped is not None and self.traces is not None:
            raise ConfigError("--skipped goes with --prompt; in traces the sentence is known")
        if self.top < 1 or self.rows < 1 or (self.steps is not None and self.steps < 1):
            raise ConfigError("--top, --rows and --steps must be at least 1")


@dataclasses.dataclass(frozen=True)
class Seen:
    """One text with latent steps, each a dot."""

    text: str
    steps: list[LatentStep]
    sentence: str | None = None
    skipped: Skipped | None = None


def inspect(config: InspectConfig) -> list[Seen]:
    """Print the latent steps of a prompt's answer, or of traces with a sentence skipped."""
    pairs = read_traces(Path(config.traces), config) if config.traces else []
    model, tokenizer = config.load(latents=True)
    if config.prompt is not None:
        seen = [_answer(model, tokenizer, config, config.prompt)]
    else:
        chance = random.Random(config.seed)
        made = [_skip_one(model, tokenizer, config, p, t, chance) for p, t in pairs[: config.rows]]
        seen = [one for one in made if one is not None]
        if not seen:
            raise DataError(f"{config.traces}: no trace has a sentence that can be skipped")
    console = Console(highlight=False)
    for one in seen:
        show(one, console)
    if config.out:
        print(files.write_json(Path(config.out), [dataclasses.asdict(one) for one in seen]))
    return seen


def _answer(model: Any, tokenizer: Any, config: InspectConfig, prompt: str) -> Seen:
    tags = model.latent_tags
    head = encode(tokenizer, prompt, tags)
    ids = head + prefix_ids(model, tokenizer, config.prefix)
    prefix_thinks = tags.latent_token_id in ids[len(head) :]
    if not prefix_thinks:
        check_lengths(model, ["--prompt"], [ids], config.max_new_tokens)
        torch.manual_seed(config.seed)
        how = SamplingConfig(samples=1, max_new_tokens=config.max_new_tokens, seed=config.seed)
        ids += generate_batch(model, tokenizer, [ids], how)[0].ids
    steps = [s for s in inspect_latents(model, ids, config.top) if s.position >= len(head)]
    if not steps:
        raise DataError(
            f"the model took no latent step in {config.max_new_tokens} positions; give it a thought to "
            f"start with: --prefix '{tags.text(3)}'"
        )
    skipped = None
    if config.skipped:
        if not prefix_thinks or ids[-1] != tags.latent_token_id:
            raise ConfigError(
                "--skipped needs a --prefix that ends with the tag that stands for it"
            )
        skipped = skipped_probability(model, ids, config.skipped)
    return Seen(dotted(model, ids[len(head) :]), steps, config.skipped, skipped)


def _skip_one(
    model: Any,
    tokenizer: Any,
    config: InspectConfig,
    prompt: str,
    trace: str,
    chance: random.Random,
) -> Seen | None:
    """A trace up to one of its sentences, a thought in its place; None if none can be skipped."""
    tags, sentences = model.latent_tags, split_sentences(trace)
    free = replaceable(sentences, tags.name)
    if not free:
        return None
    which = chance.choice(free)
    core = sentences[which].strip()
    tokens = len(tokenizer(core, add_special_tokens=False)["input_ids"])
    steps = config.steps or max(1, min(MAX_PROMPTED_STEPS, tokens // 5))
    lead = sentences[which][: sentences[which].index(core)]
    text = "".join(sentences[:which]) + lead + tags.text(steps)
    start = tokenizer(text, add_special_tokens=False)["input_ids"]
    head = encode(tokenizer, prompt, tags)
    ids = tags.expand(head + start)
    check_lengths(model, ["a trace"], [ids], tokens)
    found = [s for s in inspect_latents(model, ids, config.top) if s.position >= len(head)]
    return Seen(dotted(model, ids[len(head) :]), found, core, skipped_probability(model, ids, core))


def show(seen: Seen, console: Console) -> None:
    """One text's latent steps as a table."""
    tail = seen.text if len(seen.text) < 160 else "… " + seen.text[-160:]
    console.print(tail, style="dim", markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("step", "the LM head says", "nearest token embeddings", "size"):
        table.add_column(name)
    for step in seen.steps:
        says, near = (
            "  ".join(f"{text!r} {value:.2f}" for text, value in scored)
            for scored in (step.says, step.near)
        )
        table.add_row(f"{step.thought + 1}.{step.step + 1}", says, near, f"{step.norm:.2f}")
    console.print(table)
    if seen.skipped is not None:
        console.print(f"stands for: {seen.sentence}", markup=False)
        console.print(
            f"its {seen.skipped.tokens} tokens, mean log-probability in nats: "
            f"{seen.skipped.before:.3f} in place of the tag, {seen.skipped.after:.3f} after the thought\n"
        )
