"""What acts in RL (`litereason rl --method NAME`): LiteReason's tokens, or a baseline's."""

import dataclasses
from typing import Any

from litereason.baselines.colar_rl import ColarRL
from litereason.grpo import LatentGRPOTrainer
from litereason.rl_config import RLMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thoughts(RLMethod):
    """LiteReason's: discrete tokens act, tags among them (arXiv 2512.02240)."""

    def trainer(self, *args: Any, **kwargs: Any) -> LatentGRPOTrainer:
        return LatentGRPOTrainer(*args, **kwargs)


METHODS: dict[str, type[RLMethod]] = {"thoughts": Thoughts, "colar": ColarRL}
