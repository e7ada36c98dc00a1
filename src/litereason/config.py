"""The settings of latent steps: one small dataclass that is saved with the model.

It says what a latent step is, not how it is trained: training options live with their stage.
"""

import dataclasses
import re
from typing import Any

from litereason.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """What a latent step is for one model (arXiv 2512.02240).

    Attributes:
        projector: a name in `litereason.projector.PROJECTORS`.
        depth: MLPs in the projector's stack (the paper: 3).
        tag: name of the tag that announces a thought: `<tag>N</tag>`.
        max_latent_steps: upper bound on N; a larger N is clamped to it.
        latent_token: the reserved token whose id marks a latent slot; `None` picks an unused one.
        latent_token_id: its id; filled in by `attach`.
        base: name, revision and fingerprint of the model that latent steps were attached to; filled
            in by `attach`.
    """

    projector: str = "mlp"
    depth: int = 3
    tag: str = "implicit_thought"
    max_latent_steps: int = 32
    latent_token: str | None = None
    latent_token_id: int | None = None
    base: dict[str, str | None] | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("projector", str),
            ("depth", int),
            ("tag", str),
            ("max_latent_steps", int),
        ):
            if type(value := getattr(self, name)) is not kind:
                raise ConfigError(f"{name} is {value!r}; expected {kind.__name__}")
        if self.depth < 1:
            raise ConfigError(f"depth is {self.depth}; expected an integer of at least 1")
        if self.max_latent_steps < 1:
            raise ConfigError(
                f"max_latent_steps is {self.max_latent_steps}; expected an integer of at least 1"
            )
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.tag):
            raise ConfigError(
                f"tag is {self.tag!r}; expected a name of ASCII letters, digits and underscores"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `model.config.litereason`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LatentConfig":
        """The inverse of `to_dict`; unknown keys are an error, not a guess.

        Raises:
            ConfigError: a key that no `LatentConfig` field has.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"the latent settings are {data!r}; expected a mapping")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ConfigError(
                f"unknown latent settings {unknown}; expected some of {sorted(known)}. "
                "Was the checkpoint written by a newer litereason?"
            )
        return cls(**data)
