"""CoLaR's RL: GRPO whose actions are latents as well as tokens (arXiv 2505.16552, section 3.4).

A latent is drawn from the latent head's Gaussian, so it has a density: an action at a slot is "one more
step" (of the LM head) and the latent that was drawn (of the latent head, mean over dimensions). Policy
gradients reach both heads. What was forced (the opening, the end marker's later tokens, a marker at the
bound) is no action. Two completions of the same ids differ in their latents, so latents travel beside
the ids through the trainer.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litereason.baselines.colar import LARGEST, Colar, Wording, check_counts, check_head
from litereason.errors import ConfigError, DataError
from litereason.grpo import LatentGRPOTrainer
from litereason.losses import completion_log_probs
from litereason.model import projector_of
from litereason.policy_pass import completion_states
from litereason.rl_config import LatentGRPOConfig, RLMethod
from litereason.rollout import Loop, Rollout

# An end marker that is certain by now (the policy moved on) keeps "one more step" from infinity.
CERTAIN = -1e-6


class ColarLoop(Loop):
    """Draws each latent with the numbers of its own row and position."""

    def draw(self, model: Any, rows: Tensor, places: Tensor) -> None:
        head = projector_of(model)
        head.noise = 1.0
        head.normal = normals(self.uniform[rows, places], head.out.in_features)


def normals(uniform: Tensor, width: int) -> Tensor:
    """Standard normal numbers `(n, width)`, each row's from its number of `uniform` `(n,)` in [0, 1)."""
    seeds = (uniform.double().cpu() * 2**53).long().tolist()
    made = [np.random.default_rng(seed).standard_normal(width) for seed in seeds]
    return torch.from_numpy(np.array(made).reshape(-1, width)).to(uniform.device)


class ColarGRPOTrainer(LatentGRPOTrainer):
    """`LatentGRPOTrainer` of a model that CoLaR's fine-tuning made.

    The latent head trains with the policy; there is no refresh. `args.refresh`, `args.refill_latents` and
    the bounds on thoughts have no meaning here.

    Args:
        decoding: how completions are made, but for the noise: each latent is drawn.
        args, kwargs: as for `LatentGRPOTrainer`.

    Raises:
        ConfigError: sharded weights.
        DataError: a prompt that holds a thought.
        ModelError: no latent head, or a tokenizer that cannot read the wording.
    """

    def __init__(
        self,
        model: Any,
        args: LatentGRPOConfig,
        task: Any,
        examples: Sequence[Any],
        tokenizer: Any,
        *more: Any,
        decoding: Colar,
        **kwargs: Any,
    ) -> None:
        check_head(model)
        self.decoding = decoding
        self.frame = decoding.frame(tokenizer, decoding.r)
        self.drawn: Tensor | None = None  # `(rows, slots, hidden_size)` of the batch that is scored
        args = copy.copy(args)
        args.refresh, args.max_thoughts = "joint", 0
        super().__init__(model, args, task, examples, tokenizer, *more, **kwargs)
        if self.sharded:
            raise ConfigError(
                "CoLaR's RL does not run with sharded weights (FSDP, ZeRO-3); use DDP"
            )
        if any(self.latent_id in ids for ids in self.prompt_ids):
            raise DataError(
                "a prompt holds a finished thought, whose latents would be found anew in every pass; "
                "CoLaR's RL takes prompts without tags"
            )

    def _roll_out(self, model: Any, prompts: Any, uniform: Tensor, **how: Any) -> list[Rollout]:
        with self.decoding(model, self.processing_class, self.temperature) as fresh:
            return super()._roll_out(model, prompts, uniform, loop=ColarLoop, fresh=fresh)

    def _keep(self, mode: str, prompts: Any, made: Sequence[Rollout]) -> None:
        """Drawn latents in the order of the rows, padded."""
        latents: Any = [rollout.latents for rollout in made]
        self.drawn = torch.nn.utils.rnn.pad_sequence(latents, batch_first=True)

    def _generate(self, prompts: list[Any]) -> Any:
        """As TRL's; what was forced is marked as no action."""
        prompt_ids, completion_ids, _, *rest = super()._generate(prompts)
        steps = self.decoding.max_steps
        mask = [self.frame.actions(ids, self.latent_id or 0, steps) for ids in completion_ids]
        return prompt_ids, completion_ids, mask, *rest

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """As TRL's; drawn latents go where their rows go."""
        output = super()._generate_and_score_completions(inputs)
        output["latents"] = self.drawn
        return output

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        self.drawn = inputs["latents"]
        return super()._compute_loss(model, inputs)

    def _kept_latents(
        self, model: Any, ids: Tensor, mask: Tensor, keep: int, rows: Tensor
    ) -> list[Tensor]:
        """Those that were drawn, for the reference as well: they are actions."""
        slots = self._slots(ids, mask, keep).sum(1).tolist()
        drawn: Any = self.drawn
        return [drawn[row, :count] for row, count in zip(rows.tolist(), slots, strict=True)]

    def _slots(self, ids: Tensor, mask: Tensor, keep: int) -> Tensor:
        return (ids[:, -keep:] == self.latent_id) & (mask[:, -keep:] == 1)

    def _score(
        self, inner: Any, ids: Tensor, mask: Tensor, keep: int, kept: Any, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of tokens; at a slot, of one more step and of the latent drawn."""
        states = completion_states(inner, ids, mask, keep, kept)
        slots = self._slots(ids, mask, keep)
        asked = ids[:, -keep:].masked_fill(slots, self.frame.closing[0])
        tokens, entropies = completion_log_probs(
            inner, states, asked, self.temperature, self.latent_id, with_entropy
        )
        head = projector_of(inner)
        going_on = (-torch.expm1(tokens[slots].clamp(max=CERTAIN))).log()
        before = states[slots].to(head.out.weight.dtype)
        density = head.log_density(before, torch.cat(list(kept)).to(before))
        found = (going_on + density.to(tokens.dtype)).to(tokens.dtype)
        return tokens.masked_scatter(slots, found), entropies


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColarRL(Wording, RLMethod):
    """CoLaR's RL (arXiv 2505.16552, section 3.4).

    Attributes:
        r: compression factor that completions are asked for.
        max_steps: bound on the latent steps.
        opening, closing: see `Wording`.
    """

    draws_latents = True

    r: int = LARGEST
    max_steps: int = Colar.max_steps

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "r", "max_steps")

    def trainer(self, *args: Any, **kwargs: Any) -> ColarGRPOTrainer:
        return ColarGRPOTrainer(*args, decoding=Colar(**dataclasses.asdict(self)), **kwargs)
