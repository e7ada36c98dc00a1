"""The stages as functions: collect, sft, rl, eval. Each reads what the one before wrote.

A stage has a directory under the run directory. It is skipped when complete, taken up again when not,
and refuses a directory begun with other settings. Everything that can be wrong with the input is checked
before a model is loaded.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from litereason import checkpoints, cost, files
from litereason import model as latent
from litereason.ablations import check_ablation
from litereason.audit.command import AuditConfig
from litereason.audit.record import warning
from litereason.config import LatentConfig
from litereason.console import say
from litereason.errors import ConfigError, DataError, LiteReasonError
from litereason.fingerprint import fingerprint
from litereason.options import choose, command, option
from litereason.projector import PROJECTORS
from litereason.run_dir import held_stage, only_run, open_stage, same_inputs
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids, sample, tags_of
from litereason.tasks import TASKS, get_task
from litereason.tasks.base import Example, Task, check_mode, preflight, scores
from litereason.tasks.user_code import function_from_file
from litereason.traces import Replacement, read_traces


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


@dataclasses.dataclass(kw_only=True)
class CollectConfig(StageConfig, SamplingConfig):
    """Stage 1: sample traces and keep those that earn a reward."""

    demonstrations: bool = option(False, "take the task's own right traces; nothing is sampled")


@dataclasses.dataclass(kw_only=True)
class SFTConfig(StageConfig):
    """Stage 2: train the projector on traces in which sentences became thoughts."""

    mode: str = option("latent", "prompt: latent (thoughts offered), plain or direct")
    traces: str | None = option(None, "traces.jsonl; default: RUN_DIR/collect/NAME/traces.jsonl")
    train: str = option("projector", "projector (base frozen), or all")
    shares: tuple[float, ...] = option((0.10, 0.25), "shares of sentences to replace (s_r)")
    copies: int = option(5, "rows per trace and share")
    ratio: float = option(0.2, "latent steps per replaced token (t_r)")
    loss_after: str = option("first", "loss after the first tag, the last, or the prompt")
    max_length: int = option(4096, "longer rows are left out")
    eval_traces: str | None = option(None, "traces to report the loss on, beside three controls")
    eval_rows: int = option(200, "so many rows of them at most")
    method: str = option(
        "thoughts", "how it trains: thoughts (LiteReason's), distil, coconut or colar"
    )
    method_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "the method's own, as --method_options.NAME VALUE"}
    )
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        from litereason.sft_methods import METHODS

        super().__post_init__()
        self.replacement = Replacement(self.shares, self.copies, self.ratio, self.loss_after)
        self.how = choose("method", METHODS, self.method, self.method_options)
        self.how.settle(self)


@dataclasses.dataclass(kw_only=True)
class RLConfig(StageConfig):
    """Stage 3: GRPO; with --mode latent the policy decides when to think in latent steps."""

    method: str = option("thoughts", "what acts: thoughts (LiteReason's tokens and tags) or colar")
    method_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "the method's own, as --method_options.NAME VALUE"}
    )
    rewards: tuple[str, ...] = option(
        (), "more reward functions (TRL's signature, with `examples`), as path/to/file.py:name"
    )
    lora: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"help": "train an adapter: options of peft.LoraConfig, as --lora.r 16"},
    )
    dry_run: bool = option(False, "print the plan (parameters, memory, tokens, passes) and stop")
    launch: str | None = option(
        None, "for --dry_run: the accelerate config that the run will be launched with"
    )
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        from litereason.rl_methods import METHODS

        super().__post_init__()
        self.how = choose("method", METHODS, self.method, self.method_options)


@dataclasses.dataclass(kw_only=True)
class EvalConfig(StageConfig, SamplingConfig):
    """Sample every item and report figures with item-level intervals."""

    split: str = option("test", "the task's split")
    samples: int = option(10, "completions per item")
    ablation: str | None = option(None, "replace latents: zeros, noise, other_row or init")
    title: str | None = option(None, "what the report calls this arm")
    lens: int = option(0, "keep what the LM head says at each latent step, for so many items")


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


def sft(config: SFTConfig) -> Path:
    """Train the projector (or everything) on traces, as `config.method` says; write `model/`."""
    default = Path(config.run_dir) / "collect" / config.name / "traces.jsonl"
    pairs = read_traces(Path(config.traces or default), config)
    judged = read_traces(Path(config.eval_traces), config) if config.eval_traces else []
    with held_stage(config.home("sft"), config) as directory:
        return train_on(config, directory, pairs, judged)


def train_on(
    config: SFTConfig,
    directory: Path,
    pairs: list[tuple[str, str]],
    judged: list[tuple[str, str]],
) -> Path:
    """The same in the stage's directory, on traces that were read; the loss on those `judged` is told."""
    from litereason.sft import ProjectorConfig, SFTJob

    if (directory / "model").exists():
        say(f"sft: already complete, {directory / 'model'}")
        return directory / "model"
    settings = trainer_settings(ProjectorConfig, directory, config, train=config.train)
    torch.manual_seed(config.seed)
    model, tokenizer = config.load(True, **master_weights(config.train == "all"))
    job = SFTJob(
        config=config,
        settings=settings,
        directory=directory,
        model=model,
        tokenizer=tokenizer,
        traces=pairs,
        held_out=judged,
    )
    result = config.how(job)
    result["latents_out_of_range"] = latent.backbone(model).latents_out_of_range
    files.write_json(directory / "summary.json", result)
    return finish(model, tokenizer, directory)


def rl(config: RLConfig) -> Path:
    """GRPO on the task's reward; write `model/`. Every process of a launch runs it."""
    from accelerate import PartialState

    if config.dry_run:
        from litereason.rl_plan import dry_run

        return dry_run(config)
    # told of the CPU, it knows of other processes at once, not only when the trainer's settings are made
    processes = PartialState(cpu=not torch.cuda.is_available())
    with processes.main_process_first():
        task, examples = config.read()
    directory = config.home("rl")
    # the processes of a launch share it: one holds it for all
    with only_run(directory) if processes.is_main_process else contextlib.nullcontext():
        with processes.main_process_first():
            open_stage(directory, config)
        return train_policy(config, processes, directory, task, examples)


def train_policy(
    config: RLConfig, processes: Any, directory: Path, task: Task, examples: list[Example]
) -> Path:
    """The same in the stage's directory; `processes` is accelerate's state."""
    from litereason.rl_config import LatentGRPOConfig
    from litereason.trainers import use_our_callbacks, whole_checkpoint

    told = inputs_of(config, task, examples)
    if (directory / "model").exists():
        same_inputs(directory, None, told, processes.num_processes)
        say(f"rl: already complete, {directory / 'model'}")
        return directory / "model"
    if processes.is_main_process:
        config.warn_of(task, examples)
    settings = trainer_settings(LatentGRPOConfig, directory, config)
    rewards = [function_from_file(place) for place in config.rewards]
    torch.manual_seed(config.seed)
    model, tokenizer = config.load(config.mode == "latent", **master_weights(not config.lora))
    if config.mode != "latent":
        settings.max_thoughts = 0
    with processes.main_process_first():
        same_inputs(directory, fingerprint(model)["digest"], told, processes.num_processes)
        checkpoint = whole_checkpoint(directory / "checkpoints")
    adapter = {}
    try:
        if config.lora:
            from peft import LoraConfig

            adapter = {"peft_config": LoraConfig(task_type="CAUSAL_LM", **config.lora)}
        trainer = config.how.trainer(
            model, settings, task, examples, tokenizer, config.mode, rewards, **adapter
        )
    except LiteReasonError:
        raise
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ConfigError(f"the trainer refuses its options: {error}") from error
    use_our_callbacks(trainer, f"rl {config.name}", directory / "metrics.jsonl")
    trainer.train(resume_from_checkpoint=checkpoint)
    accelerator = trainer.accelerator
    gathered = {}
    if trainer.sharded:  # every process takes part
        gathered["state_dict"] = accelerator.get_state_dict(trainer.model)
    if processes.is_main_process:
        metrics = files.finished_lines(directory / "metrics.jsonl")
        spent = cost.of_rl(model, metrics, settings.num_generations, settings.num_iterations)
        cost.write(directory, spent)
        finish(accelerator.unwrap_model(trainer.model), tokenizer, directory, **gathered)
    processes.wait_for_everyone()
    return directory / "model"


def inputs_of(config: RLConfig, task: Task, examples: Sequence[Example]) -> list[str]:
    """What RL learns from, as text: prompts, what rewards may look at, and the files of user code."""
    told = [text for e in examples for text in (task.prompt(e, config.mode), e.as_text())]
    code = (config.task, *config.rewards, str(config.task_options.get("reward")))
    places = [place for place in code if ".py:" in place]
    return told + [Path(place.rpartition(":")[0]).read_text("utf-8") for place in places]


def master_weights(whole: bool) -> dict[str, Any]:
    """How to load a model of which the `whole` trains: bfloat16 would round small steps away."""
    return {"dtype": torch.float32} if whole else {}


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


def finish(model: Any, tokenizer: Any, directory: Path, **kwargs: Any) -> Path:
    """Save the model of a training stage (`kwargs` as for `save`) and drop its checkpoints."""
    path = checkpoints.save(model, directory / "model", tokenizer, **kwargs)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    say(f"saved {path}")
    return path


def trainer_settings(kind: Any, directory: Path, config: Any, **more: Any) -> Any:
    """The trainer's options, checked by the trainer's own config.

    Raises:
        ConfigError: it refuses them.
    """
    options = defaults(config.seed) | more | config.trainer
    try:
        return kind(output_dir=str(directory / "checkpoints"), **options)
    except LiteReasonError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the trainer refuses its options {config.trainer}: {error}") from error


def defaults(seed: int) -> dict[str, Any]:
    """Trainer options that follow from the machine and the stage."""
    return {"use_cpu": not torch.cuda.is_available(), "seed": seed, "save_steps": 50}
