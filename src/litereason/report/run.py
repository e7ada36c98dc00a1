"""What a run directory holds, as plain data for the report.

Nothing is computed here beyond looking things up: figures come from the evaluation, and the report
only tells them. `read.py` fills these from the files.
"""

import dataclasses
from pathlib import Path
from typing import Any

# The order in which arms are listed; a name that is not here follows, alphabetically.
ARM_ORDER = (
    "base",
    "direct",
    "direct-rl",
    "rl",
    "litereason",
    "pause",
    "litereason-other-row",
    "litereason-zeros",
    "litereason-noise",
    "litereason-skip",
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over items with its 95 % item-level bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Record:
    """One sample of one item; `spans` are (kind, text or number of latent steps)."""

    item: str
    sample: int
    label: str
    prompt: str
    spans: tuple[tuple[str, Any], ...]
    reward: float | None
    correct: bool | None
    discrete_tokens: int
    latent_steps: int
    thoughts: int
    truncated: bool


@dataclasses.dataclass(frozen=True)
class Arm:
    """One evaluated arm: its summary and its records."""

    name: str
    title: str
    task: str
    split: str
    model: str
    items: int
    samples: int
    seed: int
    accuracy: Estimate | None
    reward: Estimate | None
    discrete_tokens: Estimate
    total_tokens: Estimate
    latent_steps: Estimate
    trigger_rate: Estimate
    steps_per_thought: float | None
    truncated: float
    seconds: float
    command: str
    ablation: str | None
    records: tuple[Record, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The paired difference a - b on the same items."""

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    items: int

    def flipped(self) -> "Comparison":
        """The same comparison told as b - a."""
        return dataclasses.replace(
            self, a=self.b, b=self.a, difference=-self.difference, low=-self.high, high=-self.low
        )

    @property
    def holds_zero(self) -> bool:
        """Whether the interval leaves room for no difference at all."""
        return self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class AuditRule:
    """A rule about a text: what it says, how many items it is right for, and by what chance."""

    text: str
    kind: str
    label: str
    accuracy: float
    p: float


@dataclasses.dataclass(frozen=True)
class AuditProbe:
    """What a classifier that sees a part of the text tells of unseen groups."""

    name: str
    kind: str
    accuracy: float
    majority: float
    p: float


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found in a data set; no rules and no probes if no leak was looked for."""

    name: str
    leak: bool
    verdict: str
    command: str
    items: int
    majority: float
    leaks: tuple[AuditRule, ...]
    best: tuple[AuditRule, ...]
    probes: tuple[AuditProbe, ...]
    families: int
    in_families: int
    across_splits: int
    empty: int
    longest: int


@dataclasses.dataclass(frozen=True)
class Run:
    """All that one page is made from; `curves` is stage -> arm -> rows of metrics."""

    path: Path
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    audits: tuple[Audit, ...]
    curves: dict[str, dict[str, list[dict[str, float]]]]
    timings: dict[str, float]
    config: str | None

    @property
    def metric(self) -> str:
        """What arms are ranked by: accuracy, or reward when any arm has no accuracy."""
        return "accuracy" if all(arm.accuracy for arm in self.arms) else "reward"

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, if it was evaluated."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def score(self, arm: Arm) -> Estimate:
        """The arm's estimate of `metric`."""
        score = getattr(arm, self.metric)
        assert score is not None, "read_run lets no arm in without a score"
        return score

    def difference(self, a: str, b: str, metric: str) -> Comparison | None:
        """The paired difference a - b, whichever way round it was stored."""
        for one in self.comparisons:
            if one.metric == metric and (one.a, one.b) == (a, b):
                return one
            if one.metric == metric and (one.a, one.b) == (b, a):
                return one.flipped()
        return None

    def title(self, name: str) -> str:
        """The arm's title, or its name when it was trained but not evaluated."""
        arm = self.arm(name)
        return arm.title if arm else name


def arm_rank(name: str) -> tuple[int, str]:
    """Sort key: `ARM_ORDER` first, then the alphabet."""
    return (ARM_ORDER.index(name) if name in ARM_ORDER else len(ARM_ORDER), name)
