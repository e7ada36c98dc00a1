"""What `litereason compare` is told, checked before anything runs."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from litereason.arms import ARMS, Arm, variant
from litereason.arms.bench import KINDS, OWN, TRACES, Bench
from litereason.errors import ConfigError, did_you_mean
from litereason.options import build, option
from litereason.stories.pretrain import Lessons

Section = dict[str, Any]
NOT_STAGES = ("arm", "title", "against")  # of a variant
RESERVED = ("all", "collect", "collect-own", TRACES, OWN)  # these names stand for something already


@dataclasses.dataclass(kw_only=True)
class CompareConfig:
    """Run or reuse every arm under several seeds; statistics and one page."""

    model: str = option("", "the base model: a path, a hub id, or a name of `litereason get`")
    base: Section | None = dataclasses.field(
        default=None,
        metadata={"help": "instead of --model: the lessons of a tiny model, trained from nothing"},
    )
    task: str = option("stories", "as for the stages")
    task_options: Section = dataclasses.field(
        default_factory=dict, metadata={"help": "the task's own, as --task_options.NAME VALUE"}
    )
    run_dir: str = option("runs/compare", "where everything goes")
    arms: tuple[str, ...] = option(("all",), "which; --list_arms prints them")
    seeds: tuple[int, ...] = option((0, 1, 2), "one run of every arm each")
    workers: int = option(1, "arms that run side by side, a thread each")
    note: str | None = option(None, "what a reader of the report should know first")
    list_arms: bool = option(False, "print the arms and stop")
    collect: Section = dataclasses.field(
        default_factory=dict, metadata={"help": "options of `litereason collect`, for all arms"}
    )
    sft: Section = dataclasses.field(
        default_factory=dict, metadata={"help": "options of `litereason sft`"}
    )
    rl: Section = dataclasses.field(
        default_factory=dict, metadata={"help": "options of `litereason rl`"}
    )
    eval: Section = dataclasses.field(
        default_factory=dict, metadata={"help": "options of `litereason eval`"}
    )
    changes: dict[str, dict[str, Section]] = dataclasses.field(
        default_factory=dict, metadata={"help": "for one arm alone: ARM.STAGE.OPTION"}
    )
    variants: dict[str, Section] = dataclasses.field(
        default_factory=dict,
        metadata={
            "help": "an arm under other settings, beside it: NAME.arm ARM, NAME.STAGE.OPTION; NAME.against "
            "ARM: what it is compared with, if not its own arm"
        },
    )

    def __post_init__(self) -> None:
        if not self.list_arms and bool(self.model) == (self.base is not None):
            got = f"both, --model {self.model}" if self.model else "neither"
            raise ConfigError(
                "expected one of --model and, in the recipe, `base:` (the lessons of a tiny model); "
                f"got {got}"
            )
        whole = all(type(seed) is int and seed >= 0 for seed in self.seeds)
        if not whole or not self.seeds or len({*self.seeds}) < len(self.seeds):
            raise ConfigError(f"--seeds is {self.seeds}; expected different numbers from 0 up")
        if not any(self.arms):
            raise ConfigError("--arms is empty; expected some of what --list_arms prints, or all")
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; expected at least 1")
        for arm, told in self.changes.items():
            if arm not in ARMS:
                raise ConfigError(
                    f"changes of {arm!r}; expected arms ({', '.join(ARMS)}).{did_you_mean(arm, ARMS)}"
                )
            _check_sections(f"changes of {arm!r}", told)
        for name, told in self.variants.items():
            self._check_variant(name, told)

    def _check_variant(self, name: Any, told: Any) -> None:
        if not isinstance(told, dict) or not {"arm"} <= told.keys():
            raise ConfigError(
                f"variant {name!r} is {told!r:.60}; expected `arm: NAME` and what it changes"
            )
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]*\w", name):
            raise ConfigError(f"variant {name!r}: expected letters, digits and . + - _ in its name")
        if name in ARMS or name in RESERVED:
            raise ConfigError(
                f"variant {name!r} has the name of {'an arm' if name in ARMS else 'something else'}; "
                "expected another one"
            )
        for key in ("arm", "against"):
            if key in told and (not isinstance(told[key], str) or told[key] not in ARMS):
                raise ConfigError(
                    f"variant {name!r}: {key} is {told[key]!r}; expected one of {', '.join(ARMS)}."
                    f"{did_you_mean(str(told[key]), ARMS)}"
                )
        if not isinstance(told.get("title") or "", str):
            raise ConfigError(f"variant {name!r}: title is {told['title']!r}; expected text")
        rest = {key: value for key, value in told.items() if key not in NOT_STAGES}
        _check_sections(f"variant {name!r}", rest)

    def known(self) -> dict[str, Arm]:
        """All arms by name, variants last."""
        made = {
            name: variant(name, ARMS[told["arm"]], told.get("title"), told.get("against"))
            for name, told in self.variants.items()
        }
        return ARMS | made

    def changes_of(self, arm: str) -> dict[str, Section]:
        """What an arm alone is told: a variant, all that its arm is told and what it changes."""
        if arm not in self.variants:
            return self.changes.get(arm, {})
        told = self.variants[arm]
        first = self.changes.get(told["arm"], {})
        return {
            kind: first.get(kind, {}) | told.get(kind, {})
            for kind in KINDS
            if kind in first or kind in told
        }

    def lessons(self) -> Lessons:
        """What the tiny base model is taught.

        Raises:
            ConfigError: an option that `Lessons` has not.
        """
        try:
            return build(Lessons, self.base or {})
        except ConfigError as error:
            raise ConfigError(f"the recipe's `base`: {error}") from error

    def base_model(self) -> str:
        """Where the base model is, trained or not."""
        return self.model or str(Path(self.run_dir) / "base" / "model")

    def bench(self, arm: str, seed: int, dry: bool = False) -> Bench:
        """The stages of an arm under a seed."""
        return Bench(
            arm,
            Path(self.run_dir) / f"seed-{seed}",
            self.base_model(),
            seed,
            {"task": self.task, "task_options": self.task_options},
            {kind: getattr(self, kind) for kind in KINDS},
            self.changes_of(arm),
            dry,
        )


def _check_sections(what: str, told: Any) -> None:
    """Raise `ConfigError` unless `told` is options by stage."""
    if not isinstance(told, dict) or not told.keys() <= KINDS.keys():
        raise ConfigError(f"{what}: got {told!r:.80}; expected some of {', '.join(KINDS)}")
    for kind, options in told.items():
        if not isinstance(options, dict):
            raise ConfigError(
                f"{what}, {kind}: got {options!r:.60}; expected `option: value` lines"
            )
