"""What every stage is told: a model, a task, and where to put things."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from litereason import checkpoints
from litereason import model as latent
from litereason.audit.command import AuditConfig
from litereason.audit.record import warning
from litereason.config import LatentConfig
from litereason.console import say
from litereason.errors import ConfigError
from litereason.options import command, option
from litereason.projector import PROJECTORS
from litereason.run_dir import held_stage
from litereason.tasks import TASKS, get_task
from litereason.tasks.base import Example, Task, check_mode, preflight


@dataclasses.dataclass(kw_only=True)
class ModelOnTask:
    """A model and a task, as every command that needs both is told of them."""

    model: str = dataclasses.field(
        metadata={"help": "a path, a hub id, or a name that `litereason get` knows"}
    )
    task: str = option(
        "", f"{', '.join(TASKS)}, or path/to/file.py:Class; default: stories, or jsonl with --data"
    )
    data: str | None = option(
        None, "the task's data: FILE.jsonl, a directory with SPLIT.jsonl in it, or a hub id"
    )
    reward: str | None = option(
        None, "the reward of rows given as --data (TRL's signature), as path/to/file.py:name"
    )
    task_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "the task's own, as --task_options.NAME VALUE"}
    )
    split: str = option("train", "the task's split")
    limit: int | None = option(None, "take so many examples only")
    mode: str = option("plain", "prompt: plain, latent (thoughts offered) or direct (no reasoning)")
    projector: str = option("mlp", f"for a model without latent steps: {', '.join(PROJECTORS)}")
    projector_depth: int = option(3, "MLPs in the projector")
    seed: int = option(0, "seed of everything random")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit is {self.limit}; expected at least 1, or leave it out")
        check_mode(self.mode)
        given = {"data": self.data, "reward": self.reward}
        given = {name: value for name, value in given.items() if value is not None}
        self.task = self.task or ("jsonl" if given else "stories")
        self.task_options = self.task_options | given  # what the task is told, in one place
        self.data = self.reward = None
        if self.projector not in PROJECTORS:
            raise ConfigError(
                f"--projector is {self.projector!r}; expected one of {', '.join(PROJECTORS)}"
            )
        getattr(super(), "__post_init__", lambda: None)()

    def load(self, latents: bool, **kwargs: Any) -> tuple[Any, Any]:
        """The model and its tokenizer; latent steps are attached if asked for and absent.

        `kwargs` are passed to `checkpoints.load`.
        """
        model, tokenizer = checkpoints.load(self.model, **kwargs)
        if latents and not latent.has_latents(model):
            settings = LatentConfig(projector=self.projector, depth=self.projector_depth)
            model = latent.attach(model, tokenizer, settings)
        return checkpoints.to_own_device(model), tokenizer


@dataclasses.dataclass(kw_only=True)
class StageConfig(ModelOnTask):
    """What every stage is told."""

    run_dir: str = option("runs/default", "where everything of this run goes")
    name: str = option("litereason", "this arm's name: outputs go to RUN_DIR/STAGE/NAME")

    def read(self) -> tuple[Task, list[Example]]:
        """The task and its examples, checked."""
        task = get_task(self.task, self.task_options)
        return task, preflight(task, self.split, self.limit, self.mode)

    def home(self, stage: str) -> Path:
        """The stage's directory."""
        return Path(self.run_dir) / stage / self.name

    @contextlib.contextmanager
    def open(self, stage: str) -> Iterator[tuple[Path, Task, list[Example]]]:
        """The stage's directory, held until the block ends, and what `read` gives."""
        task, examples = self.read()
        with held_stage(self.home(stage), self) as directory:
            yield directory, task, examples

    def warn_of(self, task: Task, examples: Sequence[Example]) -> None:
        """Say in a line each what may spoil a judgement on these examples.

        One file serves every split; no audit in the run directory saw them, or one found a leak or
        concluded nothing.
        """
        file = task.one_file()
        if file and file.stem != self.split:
            other = "train" if self.split != "train" else "test"
            say(
                f"warning: {file} serves every split: {self.split!r} holds the items of {other!r}. Give a "
                "directory with a file a split as the data, so that no item is trained on and judged"
            )
        if found := warning(Path(self.run_dir), examples):
            text, again = found
            shared = {"task": self.task, "task_options": self.task_options, "split": self.split}
            told = command("audit", AuditConfig(run_dir=self.run_dir, **shared))
            say(f"warning: {text}" + (f". Run: {told}" if again else ""))
