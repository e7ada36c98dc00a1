"""Thoughts distilled toward the words they stand for: `litereason sft --method distil`.

A thought of N steps replaces a sentence. Here each step has a target: its share of the sentence's
tokens as one embedding (`compressed.in_order`). In one parallel pass, teacher-forced, the targets stand in
the slots; the policy learns to go on from them, and the projector to hit them. So what a latent must
carry is said at every step, instead of by the few words that come after (docs/research.md).

At inference the projector's own latents stand in the slots, which hit their targets nearly. The policy
learns to go on from those as well: in the last steps of training there is a second pass, with what the
first one made of the targets before each slot in its place. That is scheduled sampling in parallel
passes (arXiv 1906.04331), for embeddings, with gradients through both.

The projector `pause-told` is the control: the same is asked of the same hidden states, and one trained
embedding stands in all slots.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from litereason.compressed import CompressedTrainer, compress, in_order, parallel_pass
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
    own: bool = False,
) -> tuple[Tensor, Tensor]:
    """(cross-entropy, summed over labels; squared error of the latents, mean over dimensions, summed over
    slots).

    The error is in units of the token embeddings' variance. Targets are constants: the embeddings are
    not trained to be easy to hit.

    Args:
        input_ids, attention_mask, labels, reasoning, groups: see `compressed.collate`.
        own: what the model made of the targets stands in the slots, in a second pass.
    """
    spine, projector = backbone(model), projector_of(model)
    wide = next(projector.parameters()).dtype  # float32 beside a bfloat16 base
    with torch.no_grad():
        targets = compress(in_order(embed(spine, reasoning), groups), groups)
    told = targets if projector.reads_hidden else projector(targets)  # a pause hands nothing on
    hidden, states = parallel_pass(model, input_ids, attention_mask, told)
    if own and len(targets):
        latents = projector(states.to(wide)).to(targets.dtype)
        hidden, states = parallel_pass(model, input_ids, attention_mask, latents)
    tokens = label_loss(causal_lm(model), hidden, labels)
    if not len(targets):
        return tokens, tokens.new_zeros(())
    error = (projector.guess(states.to(wide)) - targets.to(wide)).pow(2).mean(-1).sum()
    return tokens, error / model.get_input_embeddings().weight.detach().to(wide).var()


class DistilTrainer(CompressedTrainer):
    """Targets stand in the slots; then, for a share `own` of the steps, the model's own latents do.

    A pause is its own latent in all steps, in one pass.
    """

    def __init__(self, *args: Any, own: float, **kwargs: Any) -> None:
        super().__init__(*args, losses=self._losses_now, **kwargs)
        self.own = own if projector_of(self.model).reads_hidden else 0.0

    @property
    def told_steps(self) -> int:
        """Steps before those with a second pass."""
        return round((1 - self.own) * self.state.max_steps)

    @property
    def passes(self) -> float:
        return 2 - self.told_steps / self.state.max_steps

    def _losses_now(self, model: Any, **batch: Tensor) -> tuple[Tensor, Tensor]:
        return distil_losses(model, **batch, own=self.state.global_step >= self.told_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distil(Thoughts):
    """LiteReason's thoughts, each latent step distilled toward the words that it stands for.

    Which sentences, and how many steps, are the stage's options.

    Attributes:
        weight: of the latents' squared error beside the cross-entropy.
        own: share of the steps, the last ones, in which the model's own latents stand in the slots. They
            cost twice as much.
    """

    weight: float = 3.0
    own: float = 0.5

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"weight is {self.weight}; expected more than 0")
        if not 0 <= self.own <= 1:
            raise ConfigError(f"own is {self.own}; expected a share of the steps, from 0 to 1")

    def settle(self, config: Any) -> None:
        if config.train != "all":
            raise ConfigError(
                f"--method distil with --train {config.train}: the policy must learn to read its latents; "
                "give --train all"
            )
        if config.projector in ("pause", "identity"):
            raise ConfigError(
                f"--method distil trains the projector to hit a target, and {config.projector!r} cannot; "
                "take another projector; 'pause-told' is a pause with a head that can"
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
        return functools.partial(DistilTrainer, weight=self.weight, own=self.own)
