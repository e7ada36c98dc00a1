"""Stage 3, `litereason rl`: GRPO on the task's reward."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from litereason import cost, files
from litereason.console import say
from litereason.errors import ConfigError, LiteReasonError
from litereason.fingerprint import fingerprint
from litereason.options import choose, option
from litereason.run_dir import of_texts, only_run, open_stage, same_inputs
from litereason.stages.settings import StageConfig
from litereason.stages.training import finish, master_weights, trainer_settings
from litereason.tasks.base import Example, Task
from litereason.tasks.user_code import code_of, function_from_file


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

    told = of_texts(inputs_of(config, task, examples))
    if (directory / "model").exists():
        same_inputs(directory, told)
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
        begun = {"model": fingerprint(model)["digest"], **told}
        same_inputs(directory, begun | {"number of processes": str(processes.num_processes)})
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
    return told + code_of(config.task, config.task_options, config.rewards)
