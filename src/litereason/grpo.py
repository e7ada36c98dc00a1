"""Stage 3: RL teaches the policy when to stop writing and think (METHOD section 3).

TRL's GRPOTrainer with a few named hooks overridden; everything else is inherited. Only discrete tokens
are actions: latent slots are masked like tool output, the latent id is outside the softmax, and latents
are constants in the policy gradient. After each epoch the projector is refreshed on the epoch's own
trajectories that earned a reward. A model without latent steps trains here as well: ordinary GRPO.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from litereason.errors import ConfigError, DataError, RewardError
from litereason.generation import read_completion
from litereason.losses import completion_log_probs
from litereason.model import backbone, causal_lm, has_latents
from litereason.policy_pass import completion_states
from litereason.sampling import conversation, encode
from litereason.sft import ProjectorConfig, ProjectorTrainer, mean_loss, refuse_checkpointing
from litereason.tasks.base import Example, Task, score
from litereason.traces import Replacement, training_rows

HELD_OUT = 16  # rows on which a refresh's loss is logged before and after


@dataclasses.dataclass
class LatentGRPOConfig(GRPOConfig):
    """`GRPOConfig` with the paper's defaults.

    Attributes:
        refresh_every: epochs between projector refreshes; 0 never refreshes.
        refresh_share: share of an epoch's rewarded trajectories that a refresh trains on.
        refresh_shares: shares of sentences replaced in them (s_r).
        refresh_learning_rate: of the projector.
    """

    learning_rate: float = 5e-7
    num_generations: int | None = 16
    max_completion_length: int | None = 2048
    gradient_checkpointing: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    bf16: bool | None = dataclasses.field(default_factory=torch.cuda.is_available)
    report_to: Any = "none"
    disable_tqdm: bool | None = True
    logging_steps: float = 1
    save_total_limit: int | None = 1
    refresh_every: int = 1
    refresh_share: float = 0.1
    refresh_shares: tuple[float, ...] = (0.10, 0.25)
    refresh_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        refuse_checkpointing(self.gradient_checkpointing or self.activation_checkpointing)
        if not 0 < self.refresh_share <= 1:
            raise ConfigError(f"refresh_share is {self.refresh_share}; expected above 0, at most 1")
        for name in ("use_vllm", "use_liger_kernel"):
            if getattr(self, name, False):
                raise ConfigError(f"{name}=True is not supported: rollouts run in `generate`")
        super().__post_init__()


class LatentGRPOTrainer(GRPOTrainer):
    """GRPO over a task, with latent steps where the model has them.

    Args:
        model: a causal LM, with or without latent steps.
        args: a `LatentGRPOConfig`.
        task: gives the reward.
        examples: what to train on.
        tokenizer: the model's.
        mode: prompt mode (`plain`, `latent`, `direct`).
        kwargs: passed to `GRPOTrainer`.
    """

    def __init__(
        self,
        model: Any,
        args: LatentGRPOConfig,
        task: Task,
        examples: Sequence[Example],
        tokenizer: Any,
        mode: str,
        **kwargs: Any,
    ) -> None:
        from datasets import Dataset

        self.latent = has_latents(model)
        if self.latent and args.beta != 0:
            raise ConfigError(
                f"beta is {args.beta}; expected 0 for a model with latent steps: TRL's reference model "
                "would have none"
            )
        if kwargs.get("peft_config") is not None or model is not causal_lm(model):
            raise ConfigError("PEFT is not supported in RL yet; train the whole policy")
        self.latent_id = model.latent_tags.latent_token_id if self.latent else None
        if self.latent:
            model.requires_grad_(True)
            model.latent_projector.requires_grad_(False)  # the refresh trains it, not RL
        self.prompts = [task.prompt(example, mode) for example in examples]
        data = Dataset.from_dict(
            {
                "prompt": [conversation(tokenizer, prompt) for prompt in self.prompts],
                "example_index": list(range(len(examples))),
            }
        )
        self.rewarded: list[tuple[int, str]] = []  # (example, text) since the last refresh
        self.generated_tokens = 0
        super().__init__(
            model=model,
            reward_funcs=reward_function(task, examples, self._text_of),  # pyright: ignore[reportArgumentType]
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            **kwargs,
        )
        if self.accelerator.num_processes > 1:
            raise ConfigError("several processes are not supported yet; start one")
        if self.latent and args.refresh_every:
            self.add_callback(ProjectorRefresh(self))

    def _text_of(self, ids: Sequence[int]) -> str:
        model: Any = self.model
        tags = model.latent_tags if self.latent else None
        return read_completion(ids, self.processing_class, tags, self.eos_token_ids).text

    def _send_telemetry(self) -> None:
        """Off: TRL would report the trainer's use."""

    def _generate(self, prompts: list[Any]) -> Any:
        """As TRL's; latent slots are marked as no action, and thoughts are counted."""
        prompt_ids, completion_ids, mask, *rest = super()._generate(prompts)
        counts = [[ids.count(self.latent_id), len(ids)] for ids in completion_ids]
        latent = torch.tensor([c[0] for c in counts], dtype=torch.float)
        total = torch.tensor([c[1] for c in counts], dtype=torch.float)
        self.generated_tokens += int((total - latent).sum())
        metrics = self._metrics["train" if self.model.training else "eval"]  # pyright: ignore[reportOptionalMemberAccess]
        metrics["latent/steps"].append(latent.mean().item())
        metrics["latent/total_tokens"].append(total.mean().item())
        metrics["latent/trigger_rate"].append((latent > 0).float().mean().item())
        metrics["latent/generated_tokens"].append(float(self.generated_tokens))
        if self.latent:
            spine: Any = backbone(self.accelerator.unwrap_model(self.model))
            metrics["latent/out_of_range"].append(float(spine.latents_out_of_range))
        metrics["completions/mean_length"][-1] = (total - latent).mean().item()
        if self.latent:
            mask = [[int(token != self.latent_id) for token in ids] for ids in completion_ids]
        return prompt_ids, completion_ids, mask, *rest

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """As TRL's; rewarded trajectories are kept for the projector refresh."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.latent and self.model.training:  # pyright: ignore[reportOptionalMemberAccess]
            for item, ids, reward in zip(inputs, completion_ids_list, rewards[:, 0], strict=True):
                if reward > 0:
                    self.rewarded.append((item["example_index"], self._text_of(ids)))
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Log-probabilities and entropies of the completions only, `(batch, logits_to_keep)`.

        Latents are constants, and the latent id is outside the softmax, as in sampling. A prompt that
        several rows share is computed once.
        """
        log_probs, entropies = [], []
        policy = self.accelerator.unwrap_model(model)
        size = batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            found, entropy = completion_log_probs(
                policy,
                completion_states(policy, ids, mask, logits_to_keep),
                ids[:, -logits_to_keep:],
                self.temperature,
                self.latent_id,
                compute_entropy,
            )
            log_probs.append(found)
            entropies.append(entropy)
        return (
            torch.cat(log_probs),
            torch.cat(entropies) if compute_entropy else None,
            None,
        )


def reward_function(
    task: Task, examples: Sequence[Example], text_of: Callable[[Sequence[int]], str]
) -> Callable[..., list[float]]:
    """The task's reward in TRL's signature; errors name the task and the example."""

    def reward(
        completion_ids: list[list[int]], example_index: list[int], **kwargs: Any
    ) -> list[float]:
        found = []
        for ids, index in zip(completion_ids, example_index, strict=True):
            value = score(task, examples[index], text_of(ids))
            if value is None:
                raise RewardError(
                    f"the reward of task {task.name!r} is None for a completion of example "
                    f"{examples[index].id!r}; RL needs a number for every completion"
                )
            found.append(value)
        return found

    return reward


class ProjectorRefresh(TrainerCallback):
    """After every `refresh_every`-th epoch: stage 2 on some of the epoch's rewarded trajectories."""

    def __init__(self, trainer: LatentGRPOTrainer) -> None:
        self.trainer = trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        if round(state.epoch) % args.refresh_every:
            return
        rng = random.Random(args.seed * 7919 + state.global_step)
        count = int(args.refresh_share * len(trainer.rewarded))
        chosen = rng.sample(trainer.rewarded, count)
        trainer.rewarded = []
        metrics = trainer._metrics["train"]
        try:
            before, after = refresh_projector(trainer, chosen, args)
        except DataError:  # nothing rewarded, or not one sentence to replace: collapse, not a fault
            metrics["latent/refresh_skipped"].append(1.0)
        else:
            metrics["latent/refresh_loss_before"].append(before)
            metrics["latent/refresh_loss_after"].append(after)


def refresh_projector(
    trainer: LatentGRPOTrainer, chosen: list[tuple[int, str]], args: LatentGRPOConfig
) -> tuple[float, float]:
    """Train the projector on `(example index, text)` trajectories; its loss before and after."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    tokenizer: Any = trainer.processing_class
    pairs = [(encode(tokenizer, trainer.prompts[index]), text) for index, text in chosen]
    how = Replacement(shares=args.refresh_shares, copies=1)
    rows = training_rows(pairs, how, tokenizer, model.latent_tags, args.seed)
    before = mean_loss(model, rows[:HELD_OUT], tokenizer.pad_token_id)
    trainable = [p for p in model.parameters() if p.requires_grad]
    config = ProjectorConfig(
        output_dir=str(args.output_dir) + "/refresh",
        learning_rate=args.refresh_learning_rate,
        warmup_steps=0,  # a refresh may be a single step, which a warm-up would give a rate of 0
        per_device_train_batch_size=16,
        gradient_accumulation_steps=1,
        save_strategy="no",
        logging_strategy="no",
        use_cpu=args.use_cpu,
        seed=args.seed,
    )
    fitter = ProjectorTrainer(model, config, rows, tokenizer.pad_token_id)
    for callback in list(fitter.callback_handler.callbacks):
        if type(callback).__name__ == "PrinterCallback":
            fitter.remove_callback(callback)
    fitter.train()
    model.requires_grad_(False)
    for parameter in trainable:
        parameter.requires_grad_(True)
    return before, mean_loss(model, rows[:HELD_OUT], tokenizer.pad_token_id)
