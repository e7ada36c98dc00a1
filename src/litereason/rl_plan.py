"""What an RL run would do, before it does it: `litereason rl --dry_run`.

Parameters, memory, tokens a step and forwards a process, from the model's config (weights stay on the
meta device), the prompts' lengths and the launch that is meant (an accelerate config). Plans under which
processes would wait for each other for ever are refused, here and by the trainer. Memory is an estimate
from shapes; what is left out: fragmentation, buffers of communication, the allocator.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from litereason.errors import ConfigError, DataError

ADAM = 8  # bytes a trained parameter: AdamW's two moments, in float32
# Values of width `hidden_size` and `intermediate_size` that a layer keeps per position for its backward.
KEPT_HIDDEN, KEPT_INNER = 12, 4


@dataclasses.dataclass(frozen=True)
class Launch:
    """How many processes, and what of the model each holds.

    Attributes:
        processes: number of processes.
        kind: as accelerate calls it (`NO`, `MULTI_GPU`, `FSDP`, `DEEPSPEED`...).
        weights, gradients, states: into how many parts weights, gradients and optimiser states are cut.
    """

    processes: int = 1
    kind: str = "NO"
    weights: int = 1
    gradients: int = 1
    states: int = 1

    @property
    def sharded(self) -> bool:
        """Whether every forward needs the other processes (FSDP, ZeRO-3)."""
        return self.weights > 1


def read_launch(path: str | Path) -> Launch:
    """The launch that an accelerate config describes.

    Raises:
        ConfigError: no such file, or accelerate does not take it.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    if not Path(path).is_file():
        raise ConfigError(f"--launch: no such file: {path}")
    try:
        config: Any = load_config_from_file(str(path))
    except Exception as error:
        raise ConfigError(f"--launch: accelerate does not take {path}: {error}") from error
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    count = int(config.num_processes or 1)
    if kind == "FSDP":
        return Launch(count, kind, count, count, count)
    if kind == "DEEPSPEED":
        stage = int((config.deepspeed_config or {}).get("zero_stage", 0))
        parts = [count if stage >= least else 1 for least in (3, 2, 1)]
        return Launch(count, kind, *parts)
    return Launch(count, kind)


def check_launch(args: Any, kind: str, sharded: bool, latent: bool, adapted: bool) -> None:
    """Refuse what cannot run under a launch.

    Args:
        args: a `LatentGRPOConfig`.
        kind: as accelerate calls it.
        sharded: whether every forward needs the other processes (FSDP, ZeRO-3).
        latent: whether the model takes latent steps.
        adapted: whether an adapter trains, whose base is the reference.

    Raises:
        ConfigError: processes would wait for each other for ever, or a reference model has no place.
    """
    if sharded and latent:
        raise ConfigError(
            "RL with latent steps needs the whole model in each process (one process, DDP, ZeRO-1 or 2). "
            "With sharded weights (FSDP, ZeRO-3) every forward needs all processes, and finding latents "
            "(refresh, reference model, prompts that hold thoughts) takes a number of forwards that "
            "depends on a process's own rows: they would wait for each other for ever. Use "
            "recipes/launch/ddp.yaml or deepspeed_zero2.yaml, --lora.r 16 to save memory, or RL without "
            "latent steps (--mode plain)"
        )
    if args.beta and not adapted and kind in ("FSDP", "DEEPSPEED"):
        raise ConfigError(
            f"beta is {args.beta} and no adapter trains: the whole reference model that this needs runs on "
            "replicated models only (one process, DDP). Train an adapter (--lora.r 16), or set beta=0"
        )


def check_enough(args: Any, processes: int, examples: int) -> int:
    """Prompts that one generation takes; refuses a data set that is smaller, which trains nothing.

    Raises:
        DataError: fewer examples than that.
    """
    steps = args.steps_per_generation or args.gradient_accumulation_steps
    completions = args.per_device_train_batch_size * processes * steps
    prompts = completions // (args.num_generations or 1)
    if examples < prompts:
        raise DataError(
            f"{examples} examples, but a generation takes {prompts} prompts ({completions} completions: "
            f"per_device_train_batch_size {args.per_device_train_batch_size} x {processes} processes x "
            f"{steps} micro-batches, {args.num_generations} a prompt): not one step would be made. Give "
            "more examples, or lower these"
        )
    return prompts


@dataclasses.dataclass(frozen=True)
class Plan:
    """One optimiser step, as `dry_run` shows it; sizes in bytes a process."""

    launch: Launch
    total: int
    trained: int
    projector: int
    completions: int
    prompts: int
    prompt_tokens: int
    longest_prompt: int
    new_tokens: int
    rollout_forwards: int
    policy_forwards: int
    positions: int
    plain_positions: int
    memory: dict[str, int]

    def lines(self) -> list[tuple[str, str]]:
        """What to show, as (name, text)."""
        gigabyte = 2**30
        total = sum(self.memory.values())
        parts = ", ".join(f"{k} {v / gigabyte:.2f}" for k, v in self.memory.items())
        return [
            ("processes", f"{self.launch.processes} ({self.launch.kind})"),
            (
                "parameters",
                f"{self.total:,}, of which the policy gradient trains {self.trained:,}; projector "
                f"{self.projector:,}",
            ),
            (
                "a step",
                f"{self.completions} completions of {self.prompts} prompts; prompts have "
                f"{self.prompt_tokens:,} tokens in the mean, at most {self.longest_prompt:,}",
            ),
            (
                "tokens a step",
                f"at most {self.completions * self.new_tokens:,} generated, "
                f"{self.prompts * self.prompt_tokens:,} of prompts computed once",
            ),
            (
                "policy pass",
                f"about {self.positions:,} positions forward and backward; {self.plain_positions:,} "
                "if each completion computed its prompt",
            ),
            (
                "forwards a process",
                f"at most {self.rollout_forwards} in rollouts, {self.policy_forwards} in policy passes",
            ),
            ("memory a process", f"about {total / gigabyte:.2f} GB (estimate: {parts})"),
        ]


def plan(
    model: Any,
    args: Any,
    lengths: Sequence[int],
    launch: Launch,
    projector: int = 0,
    adapter: int = 0,
    draws_latents: bool = False,
) -> Plan:
    """The plan of a run of `model` (on the meta device will do) over prompts of `lengths` tokens.

    Args:
        projector: parameters of the projector.
        adapter: parameters of an adapter, if one trains and the base does not.
        draws_latents: the projector trains with the policy, on latents that are kept.
    """
    check_enough(args, launch.processes, len(lengths))
    steps = args.steps_per_generation or args.gradient_accumulation_steps
    rows = args.per_device_train_batch_size * steps  # of a process and generation
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
    total = model.num_parameters() + projector
    frozen = 0 if draws_latents or args.refresh == "joint" else projector
    trained = adapter or total - frozen
    mean, new = round(statistics.mean(lengths)), args.max_completion_length
    batch = args.per_device_train_batch_size
    # Prompts that a micro-batch computes: each once, unless gradients go through its latents.
    apart = args.refresh == "joint" and not draws_latents
    groups = batch if apart else -(-batch // args.num_generations)
    at_once = min(args.rollout_batch_size or rows, rows)
    cached, kept = bytes_a_position(model.config.get_text_config(), args.bf16 or args.fp16)
    memory = {
        "weights": 4 * total // launch.weights,
        "gradients": 4 * trained // launch.gradients,
        "optimiser": ADAM * trained // launch.states,
        "reference": 4 * total // launch.weights if args.beta and not adapter else 0,
        "rollout cache": cached * at_once * (max(lengths) + new),
        "activations": kept * (groups * max(lengths) + batch * new),
    }
    # Passes without gradients: the policy that sampled, where a generation serves several steps, and
    # the reference.
    old = args.gradient_accumulation_steps % (steps * args.num_iterations) != 0
    passes = 1 + old + (args.beta != 0)
    return Plan(
        launch=launch,
        total=total,
        trained=trained,
        projector=projector,
        completions=per_step * launch.processes,
        prompts=max(1, per_step * launch.processes // args.num_generations),
        prompt_tokens=mean,
        longest_prompt=max(lengths),
        new_tokens=new,
        rollout_forwards=-(-rows // at_once) * (new + 1),
        policy_forwards=2 * args.gradient_accumulation_steps * passes,
        positions=launch.processes
        * args.gradient_accumulation_steps
        * (groups * mean + batch * new),
        plain_positions=launch.processes * per_step * (mean + new),
        memory={k: v for k, v in memory.items() if v},
    )


def bytes_a_position(config: Any, half: bool) -> tuple[int, int]:
    """(bytes in a rollout's cache, bytes kept for the backward pass) of one position.

    Args:
        config: the text model's.
        half: whether values have 16 bits instead of 32.
    """
    layers, hidden = config.num_hidden_layers, config.hidden_size
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    size = 2 if half else 4
    cached = 2 * layers * heads * width + hidden
    return size * cached, size * layers * (KEPT_HIDDEN * hidden + KEPT_INNER * inner)


def dry_run(config: Any) -> Path:
    """Print the plan of an `RLConfig`; nothing is trained or written.

    Raises:
        LiteReasonError: whatever the run itself would refuse.
    """
    from rich.console import Console
    from rich.table import Table

    from litereason.rl_config import LatentGRPOConfig, fitting_prompts
    from litereason.sampling import encode
    from litereason.stages.training import trainer_settings
    from litereason.tasks import get_task
    from litereason.tasks.base import preflight

    launch = read_launch(config.launch) if config.launch else Launch()
    task = get_task(config.task, config.task_options)
    examples = preflight(task, config.split, config.limit, config.mode)
    directory = Path(config.run_dir) / "rl" / config.name
    settings = trainer_settings(LatentGRPOConfig, directory, config)
    model, tokenizer, projector = on_meta(config)
    prompts = [task.prompt(example, config.mode) for example in examples]
    lengths = [len(encode(tokenizer, prompt)) for prompt in prompts]
    fitting = fitting_prompts(model, settings, [example.id for example in examples], lengths)
    drawn = config.how.draws_latents
    latent = drawn or (config.mode == "latent" and settings.max_thoughts != 0)
    check_launch(settings, launch.kind, launch.sharded, latent, bool(config.lora))
    adapter = adapter_parameters(model, config.lora)
    chosen = [lengths[i] for i in fitting]
    found = plan(model, settings, chosen, launch, projector, adapter, drawn)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, text in found.lines():
        table.add_row(name, text)
    Console(highlight=False).print(table)
    return directory


def on_meta(config: Any) -> tuple[Any, Any, int]:
    """(model on the meta device, tokenizer, parameters of the projector it has or would get)."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from litereason.config import LatentConfig
    from litereason.errors import ModelError
    from litereason.model import check_architecture
    from litereason.models import resolve
    from litereason.projector import build_projector

    name = resolve(config.model)
    try:
        settings = AutoConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot read the config of {name!r}: {error}") from error
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings)
        latent = getattr(settings, "litereason", None)
        if config.mode != "latent" and not latent:
            return model, tokenizer, 0
        check_architecture(model)
        known = LatentConfig.from_dict(latent) if latent else None
        kind, depth = (
            (known.projector, known.depth) if known else (config.projector, config.projector_depth)
        )
        return model, tokenizer, build_projector(kind, model, depth).parameter_count()


def adapter_parameters(model: Any, options: dict[str, Any]) -> int:
    """Parameters of the LoRA adapter that `options` describe; 0 without options."""
    if not options:
        return 0
    from litereason.extras import need

    peft: Any = need("peft", "peft")
    with torch.device("meta"):
        wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    return wrapped.get_nb_trainable_parameters()[0]
