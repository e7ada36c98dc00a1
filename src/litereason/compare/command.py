"""`litereason compare`: every arm, several seeds, one report.

A seed is an ordinary run directory, so that any of its stages can be repeated with its own command. Every
stage resumes and is skipped when complete; one that was begun with other settings is refused. An arm that
fails leaves the others whole and is tried again by the same command.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import cost, files
from litereason.arms import ARMS, Arm, chosen
from litereason.audit.command import AuditConfig, audit
from litereason.compare.config import CompareConfig
from litereason.compare.done import check_done, check_sources, is_done, note_of
from litereason.compare.read import SAME, listed
from litereason.compare.results import write_comparison
from litereason.console import say
from litereason.errors import ConfigError, DataError
from litereason.fingerprint import of_files
from litereason.models import resolve
from litereason.report import write_report
from litereason.run_dir import (
    of_texts,
    open_stage,
    plain,
    record_in,
    same_inputs,
    write_record,
)
from litereason.side_by_side import is_failure, side_by_side
from litereason.stories.base_model import train_base
from litereason.tasks import get_task
from litereason.tasks.user_code import code_of


def compare(config: CompareConfig) -> Path | None:
    """Run what is missing, write `comparison.json` and `report.html`; returns the page's path.

    Raises:
        ConfigError: settings that some arm's stage refuses, before anything runs.
        DataError: records of arms that cannot be compared; or, with the page written, some arm failed.
    """
    if config.list_arms:
        list_arms()
        return None
    arms = chosen(config.arms, config.known())
    lessons = config.lessons()
    if config.model:
        resolve(config.model)
    check_settings(config, arms)
    check_done(config, arms)
    if len(config.seeds) == 1:
        say(
            f"one seed ({config.seeds[0]}): intervals are over items alone. For three runs: --seeds 0,1,2"
        )
    if left := config.variants.keys() - {arm.name for arm in arms}:
        say(f"variants that --arms does not name, and that do not run: {', '.join(sorted(left))}")
    run = Path(config.run_dir)
    if any(run.glob("seed-*")) and not (run / "config.yaml").exists():
        raise ConfigError(
            f"{run}/config.yaml is missing, which says what the results there are of. Put it back, or take "
            "another --run_dir"
        )
    open_stage(run, config)
    audit_data(config, run)
    if config.base is not None:
        train_base(run / "base", lessons, 0)
    check_inputs(config, run)
    check_sources(config, arms)
    remember(config, run)
    list_in(run / "arms.json", arms)
    run_all(config, arms)
    before = seeds_of(run / "comparison.json")
    path = write_comparison(run, config.seeds, [arm.name for arm in arms])
    if fewer := sorted(before - {*config.seeds}):
        say(
            f"comparison.json and report.html are of seeds {list(config.seeds)} now; before, also of "
            f"{fewer}: `--seeds` with all of them makes those again"
        )
    compared = files.read_json(path)["arms"]
    page = write_report(run)
    if later := [name for name in files.read_json(run / "arms.json") if name not in compared]:
        say(f"not run yet under all of these seeds, and left out: {', '.join(later)}")
    say(f"report: {page}")
    asked = {name: compared[name] for name in compared if name in {arm.name for arm in arms}}
    if failed := [name for name, arm in asked.items() if arm["status"] != "done"]:
        which = f"{len(failed)} of {len(asked)} arms failed under some seed: {', '.join(failed)}"
        if all(arm["status"] == "failed" for arm in asked.values()):
            which = "all arms failed"
        raise DataError(f"{which}. {page} says why; the same command tries them again")
    return page


def seeds_of(path: Path) -> set[int]:
    """The seeds that `comparison.json` is of; none where it is missing or broken."""
    try:
        return {*files.read_json(path)["seeds"]}
    except (OSError, DataError, KeyError, TypeError):
        return set()


def remember(config: CompareConfig, run: Path) -> None:
    """Have `config.yaml` say what all calls so far asked for, so that it repeats everything there."""
    record = record_in(run / "config.yaml")
    begun, now = record["settings"], plain(dataclasses.asdict(config))
    merged: dict[str, Any] = {"seeds": sorted({*begun["seeds"], *now["seeds"]})}
    names = list(dict.fromkeys([*begun["arms"], *now["arms"]]))
    merged["arms"] = ["all"] if "all" in names else names
    asked = {arm.name for arm in chosen(config.arms, config.known())}
    for key in ("changes", "variants"):
        known = begun.get(key) or {}  # an option that came after the run was begun
        earlier = {name: told for name, told in known.items() if name not in asked}
        merged[key] = earlier | now[key]
    if any(begun.get(key) != value for key, value in merged.items()):
        write_record(run, record | {"settings": begun | merged})


def check_settings(config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Raise `ConfigError` for what a stage would refuse, or arms that would not be judged alike."""
    judged: dict[str, dict[str, Any]] = {}
    for arm in arms:
        bench = config.bench(arm.name, config.seeds[0], dry=True)
        arm.run(bench)
        if useless := sorted(config.changes_of(arm.name).keys() - bench.own):
            raise ConfigError(
                f"arm {arm.name!r} is told {useless[0]!r} options, and has no such stage of its own; it "
                f"has {', '.join(sorted(bench.own))}"
            )
        judged[arm.name] = {key: getattr(bench.judged, key) for key in (*SAME, "samples")}
    first, *others = judged
    for name in others:
        for key, value in judged[name].items():
            if value != judged[first][key]:
                raise ConfigError(
                    f"arm {name!r} would be judged with {key} {value!r} and {first!r} with "
                    f"{judged[first][key]!r}: arms are compared on the same items with the same budget. "
                    f"Set it for all, as --eval.{key}"
                )


def check_inputs(config: CompareConfig, run: Path) -> None:
    """Raise `ConfigError` if the model, the data or the user's code are not those of the results there."""
    task = get_task(config.task, config.task_options)
    texts = code_of(config.task, config.task_options, config.rl.get("rewards") or ())
    for stage, split in (("collect", "train"), ("rl", "train"), ("eval", "test")):
        told = getattr(config, stage)
        for example in task.examples(told.get("split", split), told.get("limit")):
            texts += [task.prompt(example), example.as_text()]
    same_inputs(run, {"model": of_files(resolve(config.base_model())), **of_texts(texts)})


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
    known = listed(path)
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
