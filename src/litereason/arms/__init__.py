"""The arms of a comparison, by name, in the order in which they are listed."""

from collections.abc import Sequence

from litereason.arms.ablated import Noise, OtherRow, Skip, Zeros
from litereason.arms.arm import Arm
from litereason.arms.base import Base, BaseOffered, Direct
from litereason.arms.coconut import Coconut
from litereason.arms.colar import Colar, ColarRl
from litereason.arms.distil import Distil, DistilOtherRow, DistilPause
from litereason.arms.litereason import LiteReason, LiteReasonShort, Pause
from litereason.arms.rl import DirectRl, Rl, RlShort, Sft
from litereason.arms.training_free import MixtureOfInputs, SoftThinking
from litereason.errors import ConfigError

ARMS: dict[str, Arm] = {
    arm.name: arm()
    for arm in (
        *(Base, BaseOffered, Direct, Sft, Rl, RlShort, DirectRl),
        *(LiteReason, LiteReasonShort, Pause, OtherRow, Zeros, Noise, Skip),
        *(Distil, DistilPause, DistilOtherRow),
        *(MixtureOfInputs, SoftThinking, Coconut, Colar, ColarRl),
    )
}
__all__ = ["ARMS", "Arm", "chosen"]


def chosen(names: Sequence[str]) -> list[Arm]:
    """The named arms and those that they need, in order; all for `all`.

    Raises:
        ConfigError: no such arm.
    """
    if unknown := sorted(set(names) - {*ARMS, "all"}):
        raise ConfigError(f"unknown arms {unknown}; expected some of {list(ARMS)}, or all")
    wanted = set(ARMS if "all" in names else names)
    while more := {need for name in wanted for need in ARMS[name].needs} & {*ARMS} - wanted:
        wanted |= more
    return [arm for name, arm in ARMS.items() if name in wanted]
