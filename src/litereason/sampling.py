"""Prompts in, completions out: batches sorted by length, a seed a batch, a record that resumes."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from litereason import files
from litereason.baselines import DECODINGS, decoding_of
from litereason.baselines.base import Arguments
from litereason.console import progress
from litereason.errors import ConfigError, DataError
from litereason.generation import Completion, end_ids, read_completion
from litereason.model import has_latents
from litereason.tags import Tags


@dataclasses.dataclass(kw_only=True)
class SamplingConfig:
    """How completions are drawn (arXiv 2512.02240, evaluation)."""

    samples: int = dataclasses.field(default=5, metadata={"help": "completions per prompt"})
    temperature: float = dataclasses.field(default=0.7, metadata={"help": "0 is greedy"})
    top_p: float = dataclasses.field(default=0.8, metadata={"help": "nucleus sampling"})
    top_k: int = dataclasses.field(default=20, metadata={"help": "0 keeps all tokens"})
    max_new_tokens: int = dataclasses.field(
        default=2048, metadata={"help": "positions per completion, latent steps included"}
    )
    batch_size: int = dataclasses.field(default=16, metadata={"help": "completions at once"})
    seed: int = dataclasses.field(default=0, metadata={"help": "seed of all draws"})
    max_thoughts: int | None = dataclasses.field(
        default=None, metadata={"help": "later tags are plain text; 0: no latent steps"}
    )
    max_latent_steps: int | None = dataclasses.field(
        default=None, metadata={"help": "bound on the steps of a thought"}
    )
    prefix: str = dataclasses.field(
        default="",
        metadata={"help": "text that every completion begins with, beside max_new_tokens"},
    )
    decoding: str | None = dataclasses.field(
        default=None,
        metadata={"help": f"how latent steps are taken: by tags, or {', '.join(DECODINGS)}"},
    )
    decoding_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "its own, as --decoding_options.NAME VALUE"}
    )

    def __post_init__(self) -> None:
        decoding_of(self.decoding, self.decoding_options)
        for name in ("samples", "batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} is {getattr(self, name)}; expected at least 1")
        if self.max_thoughts is not None and self.max_thoughts < 0:
            raise ConfigError(f"--max_thoughts is {self.max_thoughts}; expected 0 or more")
        if self.max_latent_steps is not None and self.max_latent_steps < 1:
            raise ConfigError(f"--max_latent_steps is {self.max_latent_steps}; expected 1 or more")
        if not self.temperature >= 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ConfigError(
                f"temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k}; expected "
                "temperature >= 0, top_p above 0 and at most 1, top_k >= 0"
            )


def conversation(tokenizer: Any, prompt: str) -> Any:
    """`prompt` as TRL and `encode` take it: one user message, or text if there is no template."""
    if getattr(tokenizer, "chat_template", None):
        return [{"role": "user", "content": prompt}]
    return prompt


def encode(tokenizer: Any, prompt: str, tags: Tags | None = None) -> list[int]:
    """Token ids of a prompt, ready for the model to answer; thoughts in it get their slots.

    Raises:
        LatentError: the prompt holds the reserved token where no tag announces a latent step.
    """
    message = conversation(tokenizer, prompt)
    if isinstance(message, str):
        ids = tokenizer(message)["input_ids"]
    else:
        ids = tokenizer.apply_chat_template(
            message, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
    if tags is None:
        return ids
    ids = tags.expand(ids)
    tags.check(ids, "the prompt")
    return ids


def prefix_ids(model: Any, tokenizer: Any, prefix: str) -> list[int]:
    """Ids that completions begin with; thoughts in `prefix` get their slots.

    Raises:
        LatentError: it holds the reserved token where no tag announces a latent step.
    """
    ids = tokenizer(prefix, add_special_tokens=False)["input_ids"] if prefix else []
    if (tags := tags_of(model)) is None:
        return ids
    ids = tags.expand(ids)
    tags.check(ids, "--prefix")
    return ids


def tags_of(model: Any) -> Tags | None:
    """The model's `Tags`, or None if it has no latent steps."""
    return model.latent_tags if has_latents(model) else None


def check_lengths(model: Any, names: Sequence[str], prompts: Sequence[list[int]], new: int) -> None:
    """Check that every prompt leaves room for `new` positions.

    Raises:
        DataError: one does not; names the longest.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not limit or not prompts:
        return
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[longest]) + new > limit:
        raise DataError(
            f"example {names[longest]!r}: its prompt of {len(prompts[longest])} tokens and {new} new "
            f"ones exceed the model's context of {limit}. Lower max_new_tokens, leave long items out, "
            "or use a model with a longer context"
        )


def decoding(
    model: Any, tokenizer: Any, config: SamplingConfig
) -> contextlib.AbstractContextManager[Arguments]:
    """A context in which `model` decodes as `config` says; gives more arguments for `generate`."""
    made = decoding_of(config.decoding, config.decoding_options)
    if made is None:
        return contextlib.nullcontext(dict)
    return made(model, tokenizer, config.temperature)


@torch.no_grad()
def generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    config: SamplingConfig,
    stop: str | None = None,
    arguments: Arguments | None = None,
) -> list[Completion]:
    """One completion for each encoded prompt, drawn from torch's global generator.

    A completion ends with the text `stop` where it writes that, and then may be called truncated.
    `arguments` are those of `decoding`, where many batches share one.
    """
    if arguments is None:
        with decoding(model, tokenizer, config) as arguments:
            return generate_batch(model, tokenizer, prompts, config, stop, arguments)
    start = prefix_ids(model, tokenizer, config.prefix)
    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) + start for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len([*p, *start]) for p in prompts])
    draw: dict[str, Any] = {"do_sample": False}
    if config.temperature > 0:
        draw = {"do_sample": True, "temperature": config.temperature}
        draw |= {"top_p": config.top_p, "top_k": config.top_k}
    if has_latents(model):
        draw |= {"max_thoughts": config.max_thoughts, "max_latent_steps": config.max_latent_steps}
    if stop is not None:
        draw |= {"stop_strings": [stop], "tokenizer": tokenizer}
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=config.max_new_tokens,
        pad_token_id=pad,
        **draw,
        **arguments(),
    )
    ends = [*end_ids(model, tokenizer), pad]
    tags = tags_of(model)
    made = output[:, width:].tolist()
    return [read_completion(row, tokenizer, tags, ends) for row in made]


def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    config: SamplingConfig,
    record: Callable[[list[int], list[Completion]], list[dict[str, Any]]],
    partial: Path,
    title: str,
    stop: str | None = None,
) -> list[dict[str, Any]]:
    """`config.samples` completions of every prompt, as records in order of prompt and sample.

    Args:
        prompts: encoded prompts.
        record: (prompt indices, completions) of a batch -> what to keep of each, as plain data.
        partial: file of finished records; a killed run goes on from it.
        title: shown beside the progress bar.
        stop: text that ends a completion.
    """
    rows = {(row["prompt_index"], row["sample"]): row for row in files.finished_lines(partial)}
    partial.parent.mkdir(parents=True, exist_ok=True)
    batches = list(_batches(prompts, config))
    was_training = model.training
    model.eval()
    with (
        decoding(model, tokenizer, config) as arguments,
        progress() as bar,
        partial.open("a", encoding="utf-8") as file,
    ):
        task = bar.add_task(title, total=len(prompts) * config.samples, note="")
        for number, batch in enumerate(batches):
            missing = [pair for pair in batch if pair not in rows]
            if missing:
                with torch.random.fork_rng():
                    torch.manual_seed(config.seed * 1_000_003 + number)
                    chosen = [prompts[i] for i, _ in batch]
                    done = generate_batch(model, tokenizer, chosen, config, stop, arguments)
                kept = record([i for i, _ in batch], done)
                for (i, k), fields in zip(batch, kept, strict=True):
                    rows[i, k] = {"prompt_index": i, "sample": k, **fields}
                    file.write(json.dumps(rows[i, k], ensure_ascii=False) + "\n")
                file.flush()
            bar.advance(task, len(batch))
    model.train(was_training)
    return [rows[key] for key in sorted(rows)]


def _batches(
    prompts: Sequence[list[int]], config: SamplingConfig
) -> Iterator[list[tuple[int, int]]]:
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    pairs = [(i, k) for i in order for k in range(config.samples)]
    for start in range(0, len(pairs), config.batch_size):
        yield pairs[start : start + config.batch_size]
