"""Thoughts distilled toward the words they stand for: `litereason sft --method distil`.

A thought of N steps replaces a sentence. Here each step has a target: its share of the sentence's
tokens as one embedding (`compressed.in_order`). In one parallel pass, teacher-forced, the targets stand in
the slots; the policy learns to go on from them, and the projector to hit them. At inference the
projector's own latents stand there. Gradients do not flow from one latent step into another, so this is
as fast as training on plain traces, and what a latent must carry is said at every step instead of by
the few words that come after (docs/research.md).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from litereason.compressed import CompressedTrainer, compress, in_order, teacher_forced
from litereason.errors import ConfigError, DataError
from litereason.latent_forward import embed
from litereason.losses import label_loss
from litereason.model import backbone, causal_lm, projector_of
from litereason.sft import ProjectorTrainer, SFTJob
from litereason.thoughts import Thoughts


def distil_losses(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    reasoning: Tensor,
    groups: Tensor,
) -> tuple[Tensor, Tensor]:
    """(cross-entropy, summed over labels; squared error of the latents, mean over dimensions, summed over
    slots).

    The error is in units of the token embeddings' variance. Targets are constants: the embeddings are
    not trained to be easy to hit.

    Args:
        input_ids, attention_mask, labels, reasoning, groups: see `compressed.collate`.
    """
    spine = backbone(model)
    with torch.no_grad():
        targets = compress(in_order(embed(spine, reasoning), groups), groups)
    hidden, states = teacher_forced(model, input_ids, attention_mask, targets)
    tokens = label_loss(causal_lm(model), hidden, labels)
    if not len(targets):
        return tokens, tokens.new_zeros(())
    projector = projector_of(model)
    states = states.to(next(projector.parameters()).dtype)  # float32 beside a bfloat16 base
    error = (projector(states) - targets.to(states.dtype)).pow(2).mean(-1).sum()
    return tokens, error / model.get_input_embeddings().weight.detach().to(states.dtype).var()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distil(Thoughts):
    """LiteReason's thoughts, each latent step distilled toward the words that it stands for.

    Which sentences, and how many steps, are the stage's options.

    Attributes:
        weight: of the latents' squared error beside the cross-entropy.
    """

    weight: float = 3.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"weight is {self.weight}; expected more than 0")

    def settle(self, config: Any) -> None:
        if config.train != "all":
            raise ConfigError(
                f"--method distil with --train {config.train}: the policy must learn to read its latents; "
                "give --train all"
            )
        if config.projector in ("pause", "identity"):
            raise ConfigError(
                f"--method distil trains the projector to hit a target, and {config.projector!r} cannot; "
                "take another projector"
            )
        if config.ratio > 1:
            raise ConfigError(
                f"--ratio is {config.ratio}: there would be latent steps without a word to stand for; "
                "expected at most 1"
            )
        if config.mode != "latent":
            raise ConfigError(
                f"--method distil with --mode {config.mode}: its prompts offer no thoughts; leave "
                "--mode out"
            )

    def __call__(self, job: SFTJob) -> dict[str, Any]:
        """Train on rows whose slots have targets.

        Raises:
            DataError: traces that hold thoughts, or leave no row.
        """
        for number, (_, text) in enumerate(job.traces, 1):
            if job.model.latent_tags.pattern.search(text):
                raise DataError(
                    f"trace {number} holds a thought, and nothing says which words it stands for. Collect "
                    "traces without latent steps (--mode plain)"
                )
        return super().__call__(job)

    def trainer(self) -> Callable[..., ProjectorTrainer]:
        return functools.partial(CompressedTrainer, losses=distil_losses, weight=self.weight)
