"""Stage 2: the projector learns to stand in for skipped sentences.

Cross-entropy on what follows the first thought; gradients flow through every latent step. By default
the base is frozen and only the projector trains (arXiv 2512.02240). `train="all"` trains the policy
too, for models too small to follow the instruction that offers thoughts.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from litereason import cost, files
from litereason.errors import ConfigError
from litereason.losses import next_token_loss
from litereason.model import causal_lm, has_latents, projector_of
from litereason.trainers import use_our_callbacks, whole_checkpoint

Row = dict[str, list[int]]


@dataclasses.dataclass
class ProjectorConfig(TrainingArguments):
    """`TrainingArguments` with the paper's defaults (arXiv 2512.02240, training details).

    Attributes:
        train: `projector`, or `all` to train the policy with it.
        group_threads: groups of rows that run at the same time (`losses.next_token_loss`).
    """

    train: str = "projector"
    group_threads: int = 1
    learning_rate: float = 1e-4
    lr_scheduler_type: Any = "cosine_with_min_lr"
    lr_scheduler_kwargs: Any = None
    warmup_steps: float = 0.1  # a share of all steps, where below 1
    num_train_epochs: float = 1.0
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 4
    max_grad_norm: float = 0.2
    logging_steps: float = 1
    report_to: Any = "none"
    disable_tqdm: bool | None = True
    save_total_limit: int | None = 1
    remove_unused_columns: bool | None = False

    def __post_init__(self) -> None:
        if self.train not in ("projector", "all"):
            raise ConfigError(f"train is {self.train!r}; expected 'projector' or 'all'")
        refuse_checkpointing(self.gradient_checkpointing or self.activation_checkpointing)
        if self.lr_scheduler_kwargs is None and self.lr_scheduler_type == "cosine_with_min_lr":
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()


def refuse_checkpointing(on: bool | None) -> None:
    """Gradient checkpointing drops the KV cache that latent steps need.

    Raises:
        ConfigError: it is on.
    """
    if on:
        raise ConfigError(
            "gradient_checkpointing=True drops the KV cache that latent steps need; "
            "set gradient_checkpointing=False and a smaller per_device_train_batch_size"
        )


class ProjectorTrainer(Trainer):
    """Hugging Face's Trainer with the loss on chosen positions only.

    Args:
        model: a causal LM, with or without latent steps (without: plain SFT).
        args: a `ProjectorConfig`.
        rows: `{"input_ids", "labels"}` lists, see `traces.training_rows`.
        pad_token_id: fills rows on the right.
        kwargs: passed to `Trainer`.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: Any,
        args: ProjectorConfig,
        rows: Sequence[Row],
        pad_token_id: int,
        **kwargs: Any,
    ) -> None:
        if args.world_size > 1:
            raise ConfigError(
                f"{args.world_size} processes were started; the projector's loss runs in one only. "
                "Start one process"
            )
        if args.train == "projector":
            if not has_latents(model):
                raise ConfigError(
                    "train='projector' needs a model with latent steps; attach them, or use "
                    "train='all'"
                )
            if not list(projector_of(model).parameters()):
                raise ConfigError(
                    "this model's projector has nothing to train (projector='identity'); use "
                    "train='all', or another projector"
                )
            model.requires_grad_(False)
            projector_of(model).requires_grad_(True)
        elif causal_lm(model) is model:
            model.requires_grad_(True)
        elif has_latents(model):  # PEFT: its own choice of what to train, and the projector
            projector_of(model).requires_grad_(True)

        def collate(batch: Sequence[Row]) -> dict[str, torch.Tensor]:
            return right_padded(batch, pad_token_id)

        super().__init__(model, args, data_collator=collate, train_dataset=list(rows), **kwargs)  # pyright: ignore[reportArgumentType]
        self.skipped_steps = 0
        self.add_callback(SkipNonFinite(self))

    @property
    def passes(self) -> float:
        """How often a row goes through the model in a step, on average."""
        return 1.0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean cross-entropy over the batch's labels."""
        count = (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
        inner = self.accelerator.unwrap_model(model)
        loss = next_token_loss(inner, **inputs, threads=self.args.group_threads) / count  # pyright: ignore[reportAttributeAccessIssue]
        return (loss, {}) if return_outputs else loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTJob:
    """What a method of stage 2 is given: everything is checked and loaded.

    Attributes:
        config: the stage's options, a `stages.SFTConfig`.
        settings: the trainer's.
        directory: the stage's; metrics go there.
        model: with latent steps; trained in place.
        tokenizer: its tokenizer.
        traces: (prompt, completion) pairs to train on.
        held_out: the same, to report the loss on.
    """

    config: Any
    settings: ProjectorConfig
    directory: Path
    model: Any
    tokenizer: Any
    traces: Sequence[tuple[str, str]]
    held_out: Sequence[tuple[str, str]]

    def fit(
        self,
        rows: Sequence[Row],
        settings: ProjectorConfig,
        title: str,
        before: int = 0,
        kind: Callable[..., ProjectorTrainer] = ProjectorTrainer,
    ) -> ProjectorTrainer:
        """Train the model on `rows`, from the newest checkpoint if there is one; leave what it cost.

        Args:
            before: steps that the model was trained for earlier in the same stage.
            kind: makes the trainer, from what a `ProjectorTrainer` is made of.
        """
        trainer = kind(self.model, settings, rows, self.tokenizer.pad_token_id)
        use_our_callbacks(trainer, title, self.directory / "metrics.jsonl", before)
        trainer.train(resume_from_checkpoint=whole_checkpoint(Path(str(settings.output_dir))))
        logged = files.finished_lines(self.directory / "metrics.jsonl")
        earlier = [row["seconds"] for row in logged if row["step"] <= before]
        taken = max([row["seconds"] for row in logged], default=0.0) - max(earlier, default=0.0)
        seen = (trainer.state.epoch or 0.0) * trainer.passes
        spent = cost.of_training(self.model, rows, seen, taken)
        cost.write(self.directory, spent, f"after step {before}")
        return trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTMethod(abc.ABC):
    """A way to train on traces; subclasses are dataclasses whose fields are the options.

    Attributes:
        projector: the one that it needs; the policy then trains with it. None: as the stage says.
    """

    projector: ClassVar[str | None] = None

    def settle(self, config: Any) -> None:
        """Set the options of the stage (a `stages.SFTConfig`) that are not the user's to choose.

        Raises:
            ConfigError: one that means nothing here.
        """
        if self.projector is not None:
            config.projector, config.train = self.projector, "all"

    def check_steps(self, most: int) -> None:  # noqa: B027
        """Raise `ConfigError` if a thought would be longer than `most` latent steps."""

    @abc.abstractmethod
    def __call__(self, job: SFTJob) -> dict[str, Any]:
        """Train the job's model in place; returns what the stage's summary says."""


class SkipNonFinite(TrainerCallback):
    """Skips an optimiser step whose gradients are not finite, and counts it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer  # has `model` and `skipped_steps`

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model: Any = self.trainer.model
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        if norms and not bool(torch.stack(norms).isfinite().all()):
            self.trainer.skipped_steps += 1
            model.zero_grad(set_to_none=True)  # an optimiser leaves alone what has no gradient


def right_padded(batch: Sequence[Row], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Rows as tensors `(batch, length)`: `input_ids`, `attention_mask`, `labels`."""
    width = max(len(row["input_ids"]) for row in batch)
    fill = [width - len(row["input_ids"]) for row in batch]
    return {
        "input_ids": torch.tensor(
            [r["input_ids"] + [pad_token_id] * n for r, n in zip(batch, fill, strict=True)]
        ),
        "attention_mask": torch.tensor(
            [[1] * len(r["input_ids"]) + [0] * n for r, n in zip(batch, fill, strict=True)]
        ),
        "labels": torch.tensor(
            [r["labels"] + [-100] * n for r, n in zip(batch, fill, strict=True)]
        ),
    }


@torch.no_grad()
def row_losses(model: Any, rows: Sequence[Row], pad_token_id: int) -> list[tuple[float, int]]:
    """(summed cross-entropy in nats, number of labels) of each row."""
    was_training = model.training
    model.eval()
    found = []
    for row in rows:
        batch: Any = {k: v.to(model.device) for k, v in right_padded([row], pad_token_id).items()}
        labels = int((batch["labels"][:, 1:] != -100).sum())
        found.append((float(next_token_loss(model, **batch)), labels))
    model.train(was_training)
    return found


def mean_loss(model: Any, rows: Sequence[Row], pad_token_id: int) -> float:
    """Mean cross-entropy over all labels of `rows`, in nats a token."""
    losses = row_losses(model, rows, pad_token_id)
    return sum(loss for loss, _ in losses) / max(1, sum(count for _, count in losses))
