"""What a run directory holds, as plain data for the report.

Nothing is computed here beyond looking things up: figures come from the evaluation, and the report
only tells them. `read.py` fills these from the files.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from litereason.compare.pairs import MAIN

# What every arm's figures hold; others are the task's own.
SCORES = ("accuracy", "reward")
LENGTHS = ("discrete_tokens", "total_tokens", "latent_steps", "trigger_rate")
FIGURES = (*SCORES, *LENGTHS)
# Each has a colour and a marker of its own; other names follow, alphabetically. An ordinary run lists
# its arms in this order, a comparison in its own.
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
    "distil",
    "distil-lp",
    "distil-pause",
    "distil-pause-told",
    "distil-other-row",
    "distil-rl",
    "distil-rl-pause",
    "distil-rl-other-row",
    "brief",
    "rl-longer",
    "brief-rl",
    "brief-whole",
    "brief-words",
    "distil-words",
    "brief-whole-pause-told",
    "brief-pause-told",
    "brief-whole-pause",
    "brief-pause",
    "brief-other-row",
    "sft",
    "rl-lp",
    "litereason-lp",
    "mixture-of-inputs",
    "soft-thinking",
    "soft-thinking-one",
    "soft-thinking-cold",
    "coconut",
    "colar",
    "colar-2",
    "colar-rl",
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval, and the mean under each seed where it is known."""

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Saved:
    """The share of tokens saved against another arm: of those written, and with latent steps."""

    discrete: Estimate
    total: Estimate


@dataclasses.dataclass(frozen=True)
class Record:
    """One sample of one item.

    `spans` are (kind, text or number of latent steps, lens): the lens is one list of (token, probability)
    a latent step, or None.
    """

    item: str
    sample: int
    label: str
    prompt: str
    spans: tuple[tuple[str, Any, Any], ...]
    reward: float | None
    correct: bool | None
    discrete_tokens: int
    latent_steps: int
    thoughts: int
    truncated: bool


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An arm under one seed: its summary and its records."""

    arm: str
    title: str
    task: str
    split: str
    model: str
    items: int
    samples: int
    seed: int
    figures: dict[str, Estimate | None]
    steps_per_thought: float | None
    truncated: float
    seconds: float
    command: str
    ablation: str | None
    records: tuple[Record, ...]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm over all its seeds; `evaluations` is empty when it failed under every seed.

    `trains`, `goes_latent` and `costs` are sentences; `cost` is figures of all its stages, `answer` of one
    answer; `saved` is by the arm it is saved against, `configs` are the settings of its stages by file.
    What is not known is None.
    """

    name: str
    title: str
    evaluations: tuple[Evaluation, ...]
    figures: dict[str, Estimate | None]
    ablation: str | None = None
    trains: str | None = None
    goes_latent: str | None = None
    costs: str | None = None
    status: str = "done"
    reason: str | None = None
    saved: dict[str, Saved | None] = dataclasses.field(default_factory=dict)
    recovered: Estimate | None = None
    front: float | None = None
    cost: dict[str, float | None] | None = None
    answer: dict[str, float | None] | None = None
    configs: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those it was evaluated under."""
        return tuple(one.seed for one in self.evaluations)

    @property
    def items(self) -> int:
        """How many it was judged on."""
        return self.evaluations[0].items

    @property
    def samples(self) -> int:
        """Completions an item."""
        return self.evaluations[0].samples

    @property
    def truncated(self) -> float:
        """Share of samples that met the token limit."""
        return _mean([one.truncated for one in self.evaluations])

    @property
    def steps_per_thought(self) -> float | None:
        """Latent steps a thought, or None when there was no thought under some seed."""
        found = [one.steps_per_thought for one in self.evaluations]
        known = [value for value in found if value is not None]
        return _mean(known) if len(known) == len(found) else None

    def figure(self, metric: str) -> Estimate:
        """A figure that every evaluated arm has."""
        found = self.figures.get(metric)
        assert found is not None, f"read.py lets no arm in without {metric}"
        return found

    @property
    def discrete_tokens(self) -> Estimate:
        return self.figure("discrete_tokens")

    @property
    def total_tokens(self) -> Estimate:
        return self.figure("total_tokens")

    @property
    def latent_steps(self) -> Estimate:
        return self.figure("latent_steps")

    @property
    def trigger_rate(self) -> Estimate:
        return self.figure("trigger_rate")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The paired difference a - b on the same items under the same seeds.

    `p_corrected` is corrected for all comparisons of its family.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    items: int
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...] = ()

    def flipped(self) -> "Comparison":
        """The same comparison told as b - a."""
        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            by_seed=tuple(-one for one in self.by_seed),
        )

    @property
    def shown(self) -> bool:
        """Whether a difference was shown: no 0 in the interval, and a corrected p below .05."""
        return not self.low <= 0 <= self.high and self.p_corrected < 0.05


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
    """All that one page is made from.

    `arms` are those with figures; `failed` are those that failed under some or all seeds. `curves` is
    stage -> arm -> one list of rows of metrics a seed.
    """

    path: Path
    task: str
    split: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    failed: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    audits: tuple[Audit, ...]
    curves: dict[str, dict[str, list[list[dict[str, float]]]]]
    config: str | None

    @property
    def metric(self) -> str:
        """What arms are ranked by: accuracy, or reward when any arm has no accuracy."""
        return "accuracy" if all(arm.figures.get("accuracy") for arm in self.arms) else "reward"

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The task's own metrics that some arm has a figure of."""
        names = [name for arm in self.arms for name, value in arm.figures.items() if value]
        return tuple(name for name in dict.fromkeys(names) if name not in FIGURES)

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, if it was evaluated."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def ours(self) -> list[Arm]:
        """LiteReason's arms of which everything is asked, the last step of the recipe first."""
        return [arm for name in reversed(MAIN) if (arm := self.arm(name))]

    def commits(self) -> Counter[str]:
        """How many stages of the arms each commit of the code ran, where their settings name it."""
        texts = {place: text for arm in self.arms for place, text in arm.configs.items()}
        told = [parsed(text).get("commit") for text in texts.values()]
        return Counter(str(commit) for commit in told if commit)

    def score(self, arm: Arm) -> Estimate:
        """The arm's estimate of `metric`."""
        return arm.figure(self.metric)

    @functools.cached_property
    def majority(self) -> tuple[str, float] | None:
        """The commonest label and its share of the items, when there are just two labels."""
        judged = [one for arm in self.arms for one in arm.evaluations]
        labels = {record.item: record.label for one in judged for record in one.records}
        kinds = sorted(set(labels.values()))
        # a handful of items that happen to have two labels is no binary task
        if len(kinds) != 2 or len(labels) < 10 or self.metric != "accuracy":
            return None
        share, label = max((list(labels.values()).count(one) / len(labels), one) for one in kinds)
        return label, share

    def difference(self, a: str, b: str, metric: str) -> Comparison | None:
        """The paired difference a - b, whichever way round it was stored."""
        for one in self.comparisons:
            if one.metric == metric and (one.a, one.b) == (a, b):
                return one
            if one.metric == metric and (one.a, one.b) == (b, a):
                return one.flipped()
        return None

    def mean_curve(self, stage: str, arm: str, key: str) -> list[tuple[float, float]]:
        """(step, mean over seeds) of what was logged, at the steps that every seed logged."""
        seeds = [
            {row["step"]: row[key] for row in rows if key in row}
            for rows in self.curves.get(stage, {}).get(arm, [])
        ]
        shared = set.intersection(*map(set, seeds)) if seeds else set()
        return [(step, _mean([seed[step] for seed in seeds])) for step in sorted(shared)]

    def title(self, name: str) -> str:
        """The arm's title, or its name when it was trained but not evaluated."""
        arm = self.arm(name)
        return arm.title if arm else name


def parsed(config: str) -> dict[str, Any]:
    """What a `config.yaml` says; nothing if it is broken: the page shows its text."""
    try:
        found = yaml.safe_load(config)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def again(file: str, config: str) -> str:
    """The command that repeats what a `config.yaml` tells of.

    Args:
        file: its place in the run: `config.yaml` of a comparison, else `.../STAGE/NAME/config.yaml`.
    """
    told = parsed(config).get("settings")
    home = PurePosixPath(str(told.get("run_dir", ".")) if isinstance(told, dict) else ".")
    place = PurePosixPath(*PurePosixPath(file).parts[-3:])
    stage = place.parts[0] if len(place.parts) == 3 else "compare"
    return f"litereason {stage} --config {home / place}"


def arm_rank(name: str) -> tuple[int, str]:
    """Sort key: `ARM_ORDER` first, then the alphabet."""
    return (ARM_ORDER.index(name) if name in ARM_ORDER else len(ARM_ORDER), name)
