"""Settings of RL, and which prompts it trains on."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from trl import GRPOConfig

from litereason.console import say
from litereason.errors import ConfigError, DataError
from litereason.rewards import LENGTH_PENALTIES
from litereason.sft import refuse_checkpointing


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLMethod(abc.ABC):
    """What acts in RL; subclasses are dataclasses whose fields are the options.

    Attributes:
        draws_latents: latents are actions beside tokens, so the projector trains with the policy.
    """

    draws_latents: ClassVar[bool] = False

    @abc.abstractmethod
    def trainer(self, *args: Any, **kwargs: Any) -> Any:
        """A `LatentGRPOTrainer` that is given these arguments."""


CHOICES = {
    "refresh": ("epoch", "off", "joint"),
    "long_prompts": ("refuse", "drop", "truncate"),
    "length_penalty": LENGTH_PENALTIES,
    # TRL finds a wrong one of these only after its first rollout.
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
}
AT_LEAST_1 = "at least 1"
NOT_BELOW_0 = "0 or more"
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        (
            *("refresh_every", "rollout_batch_size", "length_penalty_span", "max_prompt_length"),
            *("max_latent_steps", "max_completion_length", "per_device_train_batch_size"),
            *("gradient_accumulation_steps", "num_iterations"),
        ),
        (AT_LEAST_1, lambda value: value >= 1),
    ),
    **dict.fromkeys(
        (
            *("max_thoughts", "length_penalty_weight", "learning_rate", "refresh_learning_rate"),
            *("beta", "epsilon", "epsilon_high", "seed", "top_k", "max_grad_norm"),
        ),
        (NOT_BELOW_0, lambda value: value >= 0),
    ),
    "max_steps": ("at least 1, or -1 for all epochs", lambda value: value == -1 or value >= 1),
    "num_train_epochs": ("above 0", lambda value: value > 0),
    "temperature": ("above 0", lambda value: value > 0),
    "repetition_penalty": ("above 0", lambda value: value > 0),
    "min_p": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "top_entropy_quantile": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "top_p": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "refresh_share": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "refresh_shares": (
        "shares from 0 to 1",
        lambda value: len(value) > 0 and all(0 <= share <= 1 for share in value),
    ),
}


@dataclasses.dataclass
class LatentGRPOConfig(GRPOConfig):
    """`GRPOConfig` with the paper's defaults.

    Attributes:
        refresh: `epoch` refreshes the projector after every `refresh_every` epochs (the paper), `off`
            leaves it as it is, `joint` trains it with the policy: gradients go through latents that are
            found again in every pass.
        refresh_every: epochs between projector refreshes.
        refresh_share: share of these epochs' rewarded trajectories that a refresh trains on.
        refresh_shares: shares of sentences replaced in them (s_r).
        refresh_learning_rate: of the projector.
        refill_latents: find latents again with the policy as it is now, instead of putting back those
            that the rollout was made with.
        max_thoughts, max_latent_steps: bounds on a rollout's thoughts, as for `generate`; `max_thoughts=0`
            is RL without latent steps.
        max_prompt_length: bound on a prompt's tokens; None: what the model's context leaves.
        long_prompts: what happens to longer ones: `refuse` the run, `drop` the examples, or `truncate` to
            their last tokens.
        rollout_batch_size: completions that are made at once; None: all of a generation batch.
        length_penalty: `none`, `overlong` or `correct_only`, see `rewards.length_penalty`.
        length_penalty_weight: its weight beside the task's reward.
        length_penalty_span: positions over which it grows from 0 to -1.
    """

    learning_rate: float = 5e-7
    num_generations: int | None = 16
    per_device_train_batch_size: int = 16  # one whole group
    max_completion_length: int | None = 2048
    gradient_checkpointing: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    bf16: bool | None = dataclasses.field(default_factory=torch.cuda.is_available)
    report_to: Any = "none"
    disable_tqdm: bool | None = True
    logging_steps: float = 1
    save_total_limit: int | None = 1
    refresh: str = "epoch"
    refresh_every: int = 1
    refresh_share: float = 0.1
    refresh_shares: tuple[float, ...] = (0.10, 0.25)
    refresh_learning_rate: float = 1e-4
    refill_latents: bool = False
    max_thoughts: int | None = None
    max_latent_steps: int | None = None
    max_prompt_length: int | None = None
    long_prompts: str = "refuse"
    rollout_batch_size: int | None = None
    length_penalty: str = "none"
    length_penalty_weight: float = 1.0
    length_penalty_span: int = 512

    def __post_init__(self) -> None:
        refuse_checkpointing(self.gradient_checkpointing or self.activation_checkpointing)
        # TRL takes true and false as well, which a command line tells as words.
        words = {"true": "group", "yes": "group", "false": "none", "no": "none"}
        self.scale_rewards = words.get(str(self.scale_rewards).lower(), self.scale_rewards)
        self._check_choices()
        for name in ("use_vllm", "use_liger_kernel", "use_transformers_continuous_batching"):
            if getattr(self, name, False):
                raise ConfigError(f"{name}=True is not supported: rollouts run in `generate`")
        if self.sync_ref_model:
            raise ConfigError(
                "sync_ref_model=True is not supported: a resumed run would not have the synced reference"
            )
        if self.cache_implementation is not None:
            raise ConfigError(
                f"cache_implementation is {self.cache_implementation!r}; leave it out: rollouts have a "
                "cache of their own, which prompts share"
            )
        super().__post_init__()
        self._check_saving()

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = ", ".join(map(str, choices))
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {wanted}")
        for name, (wanted, fits) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ConfigError(f"{name} is {value}; expected {wanted}")
        more: Any = self.generation_kwargs or {}
        longest = self.max_completion_length or 0
        if self.length_penalty == "overlong" and self.length_penalty_span > longest:
            raise ConfigError(
                f"length_penalty_span is {self.length_penalty_span} and max_completion_length {longest}: "
                "every completion would pay. Set a span below the longest completion"
            )
        clip = 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)
        if self.delta is not None and not self.delta > clip:
            raise ConfigError(
                f"delta is {self.delta}; expected above {clip:g}, where ratios are clipped already (1 + "
                "epsilon_high), or none"
            )
        for name, value in more.items():
            if {"num_beams": value != 1, "do_sample": not value}.get(name):
                raise ConfigError(
                    f"generation_kwargs has {name}={value!r}; RL needs completions that are sampled, one "
                    "at a time (the temperature says how freely)"
                )

    def _check_saving(self) -> None:
        """A checkpoint between a generation and its last use could not be resumed exactly."""
        window = (self.steps_per_generation or 1) * self.num_iterations
        every = self.save_steps * self.gradient_accumulation_steps
        if self.save_strategy == "steps" and self.save_steps >= 1 and every % window:
            raise ConfigError(
                f"save_steps is {self.save_steps:g}, which is {every:g} micro-batches, but completions are "
                f"made every {window} (steps_per_generation x num_iterations); expected a multiple of "
                f"{window} micro-batches, so that a resumed run goes on exactly"
            )


def prompt_limit(model: Any, args: LatentGRPOConfig) -> int | None:
    """The most tokens that a prompt may have, or None if there is no bound."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    new = args.max_completion_length or 0
    if context and new >= context:
        raise ConfigError(
            f"max_completion_length is {new}, but the model's context has {context} tokens, prompt and "
            "completion together; set a lower max_completion_length"
        )
    bounds = [args.max_prompt_length, context and context - new]
    return min((bound for bound in bounds if bound), default=None)


def fitting_prompts(
    model: Any, args: LatentGRPOConfig, names: Sequence[str], lengths: Sequence[int]
) -> list[int]:
    """Which examples (ids `names`, prompts of `lengths` tokens) are trained on.

    Raises:
        DataError: some are too long and `long_prompts` is `refuse`, or none is left.
    """
    limit = prompt_limit(model, args)
    long = [i for i, n in enumerate(lengths) if limit is not None and n > limit]
    if not long:
        return list(range(len(lengths)))
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(long, key=lambda i: lengths[i])
    found = (
        f"{len(long)} of {len(lengths)} prompts have more than {limit} tokens (the longest, of example "
        f"{names[longest]!r}, {lengths[longest]})"
    )
    if args.long_prompts == "truncate":
        say(f"{found}: cut to their last {limit}")
        return list(range(len(lengths)))
    if args.long_prompts == "refuse" or len(long) == len(lengths):
        raise DataError(
            f"{found}; the model has a context of {context}, max_prompt_length is "
            f"{args.max_prompt_length}, max_completion_length {args.max_completion_length}. Raise the "
            "bound, lower max_completion_length, or set long_prompts to 'drop' or 'truncate'"
        )
    say(f"{found}: left out")
    return sorted({*range(len(lengths))} - {*long})
