"""The arms of a comparison, by name, in the order in which they are listed."""

from collections.abc import Mapping, Sequence

from litereason.arms.ablated import Noise, OtherRow, Skip, Zeros
from litereason.arms.arm import Arm, variant
from litereason.arms.base import Base, BaseOffered, Direct
from litereason.arms.brief import (
    Brief,
    BriefOtherRow,
    BriefPause,
    BriefPauseTold,
    BriefRl,
    BriefWhole,
    BriefWholePause,
    BriefWholePauseTold,
    BriefWords,
    RlLonger,
)
from litereason.arms.coconut import Coconut
from litereason.arms.colar import Colar, ColarRl, ColarTwo
from litereason.arms.distil import (
    Distil,
    DistilOtherRow,
    DistilPause,
    DistilPauseTold,
    DistilRl,
    DistilRlOtherRow,
    DistilRlPause,
    DistilShort,
    DistilWords,
)
from litereason.arms.litereason import LiteReason, LiteReasonShort, Pause
from litereason.arms.rl import DirectRl, Rl, RlShort, Sft
from litereason.arms.training_free import (
    MixtureOfInputs,
    SoftThinking,
    SoftThinkingCold,
    SoftThinkingOne,
)
from litereason.errors import ConfigError, did_you_mean

ARMS: dict[str, Arm] = {
    arm.name: arm()
    for arm in (
        *(Base, BaseOffered, Direct, Sft, Rl, RlShort, DirectRl),
        *(LiteReason, LiteReasonShort, Pause, OtherRow, Zeros, Noise, Skip),
        *(Distil, DistilShort, DistilPause, DistilPauseTold, DistilOtherRow, DistilWords),
        *(DistilRl, DistilRlPause, DistilRlOtherRow),
        *(RlLonger, BriefRl, BriefWhole, Brief, BriefWords),
        *(BriefWholePause, BriefPause, BriefWholePauseTold, BriefPauseTold, BriefOtherRow),
        *(MixtureOfInputs, SoftThinking, SoftThinkingOne, SoftThinkingCold),
        *(Coconut, Colar, ColarTwo, ColarRl),
    )
}
__all__ = ["ARMS", "Arm", "chosen", "variant"]


def chosen(names: Sequence[str], known: Mapping[str, Arm] = ARMS) -> list[Arm]:
    """The named arms and those that they need, in order; all for `all`.

    Args:
        known: all arms, by name.

    Raises:
        ConfigError: no such arm.
    """
    if unknown := sorted(set(names) - {*known, "all"}):
        raise ConfigError(
            f"unknown arms {unknown}; expected some of {list(known)}, or all."
            f"{did_you_mean(unknown[0], known)}"
        )
    wanted = set(known if "all" in names else names)
    while more := {need for name in wanted for need in known[name].needs} & {*known} - wanted:
        wanted |= more
    return [arm for name, arm in known.items() if name in wanted]
