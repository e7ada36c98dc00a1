"""`litereason compare`: every arm, several seeds, one report.

A seed is an ordinary run directory, so that any of its stages can be repeated with its own command. Every
stage resumes and is skipped when complete; one that was begun with other settings is refused. An arm that
fails leaves the others whole and is tried again by the same command.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import cost, files
from litereason.arms import ARMS, Arm, chosen, variant
from litereason.arms.bench import KINDS, Bench
from litereason.audit.command import AuditConfig, audit
from litereason.compare.results import write_comparison
from litereason.console import say
from litereason.errors import ConfigError
from litereason.options import option
from litereason.report import write_report
from litereason.run_dir import open_stage, plain
from litereason.side_by_side import is_failure, side_by_side
from litereason.stories.base_model import Lessons, train_base

Section = dict[str, Any]


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
            "help": "an arm under other settings, beside it: NAME.arm ARM, NAME.STAGE.OPTION"
        },
    )

    def __post_init__(self) -> None:
        if not self.list_arms and bool(self.model) == (self.base is not None):
            raise ConfigError("give --model, or in the recipe `base:`, the lessons of a tiny model")
        if not self.seeds or len({*self.seeds}) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"--seeds is {self.seeds}; expected different numbers from 0 up")
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; expected at least 1")
        wrong = [arm for arm in self.changes if arm not in ARMS]
        stages = [s for told in self.changes.values() for s in told if s not in KINDS]
        if wrong or stages:
            raise ConfigError(
                f"changes of {(wrong or stages)[0]!r}; expected arms ({', '.join(ARMS)}) and under "
                f"each some of {', '.join(KINDS)}"
            )
        for name, told in self.variants.items():
            keys = {"arm", "title", *KINDS}
            if name in ARMS or told.get("arm") not in ARMS or not told.keys() <= keys:
                raise ConfigError(
                    f"variant {name!r} is {told}; expected a name that no arm has, `arm` "
                    f"({', '.join(ARMS)}), and, if wanted, `title` and some of {', '.join(KINDS)}"
                )
            if not re.fullmatch(r"[\w.+-]*\w", name):
                raise ConfigError(
                    f"variant {name!r}: expected letters, digits and . + - _ in its name"
                )

    def known(self) -> dict[str, Arm]:
        """All arms by name, variants last."""
        told = self.variants.items()
        return ARMS | {k: variant(k, ARMS[v["arm"]], v.get("title")) for k, v in told}

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
            return Lessons(**(self.base or {}))
        except TypeError as error:
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


def compare(config: CompareConfig) -> Path | None:
    """Run what is missing, write `comparison.json` and `report.html`; returns the page's path.

    Raises:
        ConfigError: settings that some arm's stage refuses, before anything runs.
        DataError: records of arms that cannot be compared.
    """
    if config.list_arms:
        list_arms()
        return None
    arms = chosen(config.arms, config.known())
    lessons = config.lessons()
    for arm in arms:
        arm.run(config.bench(arm.name, config.seeds[0], dry=True))
    check_done(config, arms)
    run = Path(config.run_dir)
    open_stage(run, config)
    audit_data(config, run)
    if config.base is not None:
        train_base(run / "base", lessons, 0)
    list_in(run / "arms.json", arms)
    run_all(config, arms)
    compared = files.read_json(write_comparison(run))["arms"]
    page = write_report(run)
    if later := [name for name in files.read_json(run / "arms.json") if name not in compared]:
        say(f"not run yet, and left out: {', '.join(later)}")
    say(f"report: {page}")
    return page


def audit_data(config: CompareConfig, run: Path) -> None:
    """Look for leaks in what the arms train on and are judged on."""
    if (run / "audit" / "data" / "audit.json").exists():
        return
    stages = (config.collect, config.sft, config.rl, config.eval)
    limits = [stage["limit"] for stage in stages if stage.get("limit")]
    splits = dict.fromkeys(stage.get("split", "train") for stage in stages[:3])
    splits |= {config.eval.get("split", "test"): None}
    audit(
        AuditConfig(
            task=config.task,
            task_options=config.task_options,
            split=",".join(splits),
            limit=max(limits) if len(limits) == len(stages) else None,
            run_dir=str(run),
            name="data",
        )
    )


def list_in(path: Path, arms: Sequence[Arm]) -> None:
    """What each arm is, for the report; arms of earlier calls stay listed."""
    known = files.read_json(path) if path.exists() else {}
    told = ("title", "trains", "goes_latent", "costs", "variant_of")
    known |= {arm.name: {key: getattr(arm, key) for key in told} for arm in arms}
    order = [*ARMS, *(name for name in known if name not in ARMS)]
    files.write_json(path, {name: known[name] for name in order if name in known})


def run_all(config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Every arm under every seed that is not done; those that fail are noted."""
    jobs: dict[str, Any] = {}
    needs: dict[str, list[str]] = {}
    for seed in config.seeds:
        missing = [arm for arm in arms if not is_done(config, arm.name, seed)]
        for need, function in (("collect", run_collect), ("collect-own", run_collect_own)):
            if any(need in arm.needs for arm in missing):
                jobs[f"seed-{seed}-{need}"] = functools.partial(function, config, seed)
        for arm in missing:
            name = f"seed-{seed}-{arm.name}"
            jobs[name] = functools.partial(run_arm, config, arm.name, seed)
        for arm in missing:
            wanted = [f"seed-{seed}-{need}" for need in arm.needs]
            needs[f"seed-{seed}-{arm.name}"] = [need for need in wanted if need in jobs]
        if (first := f"seed-{seed}-rl") in jobs:
            needs[f"seed-{seed}-collect-own"] = [first]
    logs = Path(config.run_dir) / "logs"
    found = side_by_side(jobs, config.workers, logs, needs, keep_going=True)
    for seed in config.seeds:
        for arm in arms:
            result = found.get(f"seed-{seed}-{arm.name}")
            if is_failure(result):
                reason = f"{type(result).__name__}: {result}"
                say(f"{arm.name}, seed {seed} failed: {reason}")
                write_note(config, arm.name, seed, status="failed", reason=reason)


def note_of(config: CompareConfig, arm: str, seed: int) -> Path:
    """The file that says how an arm ended."""
    return Path(config.run_dir) / f"seed-{seed}" / "arms" / f"{arm}.json"


def is_done(config: CompareConfig, arm: str, seed: int) -> bool:
    """Whether an arm ended well and everything that it used is still there."""
    path = note_of(config, arm, seed)
    if not path.exists():
        return False
    note = files.read_json(path)
    places = [path.parents[1] / place for place in note["stages"]]
    return note["status"] == "done" and all(place.is_dir() for place in places)


def check_done(config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Raise `ConfigError` if an arm is done that was told otherwise by `changes` or `variants`."""
    for seed in config.seeds:
        for arm in arms:
            path = note_of(config, arm.name, seed)
            note = files.read_json(path) if path.exists() else {}
            was, now = (note.get("told") or {}), plain(config.changes_of(arm.name))
            if note.get("status") == "done" and was != now:
                stages = ", ".join(place for place in note["stages"] if place.endswith(arm.name))
                raise ConfigError(
                    f"arm {arm.name!r} is done under seed {seed}, but was told {was} and now {now}. "
                    f"Give it another name (`variants`), or delete {path} and, beside it, {stages}"
                )


def run_collect(config: CompareConfig, seed: int) -> None:
    """The base's traces, which arms of this seed share."""
    config.bench("collect", seed).collect()


def run_collect_own(config: CompareConfig, seed: int) -> None:
    """Those of RL's policy."""
    config.bench("collect-own", seed).reasoner()


def write_note(
    config: CompareConfig, arm: str, seed: int, stages: Sequence[str] = (), **told: Any
) -> None:
    """Say how an arm ended."""
    note = {"arm": arm, "reason": None, "stages": list(stages), "cost": None, **told}
    note["told"] = plain(config.changes_of(arm))
    files.write_json(note_of(config, arm, seed), note)


def run_arm(config: CompareConfig, name: str, seed: int) -> None:
    """One arm under one seed, and a note that it is done."""
    bench = config.bench(name, seed)
    config.known()[name].run(bench)
    total = sum((cost.read(bench.run / place) for place in bench.used), cost.Cost())
    write_note(config, name, seed, bench.used, status="done", cost=dataclasses.asdict(total))


def list_arms() -> None:
    """All arms: what each trains, how it goes latent, what it costs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("arm", "", "what"):
        table.add_column(column, no_wrap=column != "what")
    for arm in ARMS.values():
        table.add_row(arm.name, "trains", arm.trains)
        table.add_row("", "goes latent", arm.goes_latent)
        table.add_row("", "costs", arm.costs, end_section=True)
    Console(highlight=False).print(table)
