"""Which arms ended well, and whether what they came of is still what it was."""

import functools
import operator
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from litereason.arms import Arm
from litereason.arms.bench import RESULTS
from litereason.compare.config import CompareConfig
from litereason.compare.note import note_path, read_note
from litereason.errors import ConfigError
from litereason.fingerprint import of_files
from litereason.run_dir import changed_inputs, plain, settings_in, sources


def note_of(config: CompareConfig, arm: str, seed: int) -> Path:
    """The file that says how an arm ended."""
    return note_path(Path(config.run_dir) / f"seed-{seed}", arm)


def is_done(config: CompareConfig, arm: str, seed: int) -> bool:
    """Whether an arm ended well and everything that it used is still there."""
    path = note_of(config, arm, seed)
    if not path.exists():
        return False
    note = read_note(path)
    places = [path.parents[1] / place for place in note["stages"]]
    made = [place / RESULTS[place.parent.name] for place in places]
    return note["status"] == "done" and all(file.exists() for file in made)


def check_done(config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Raise `ConfigError` if an arm is done that was told otherwise by `changes` or `variants`."""
    for arm, seed, run, note in done(config, arms):
        was, now = (note.get("told") or {}), plain(config.changes_of(arm))
        if was != now:
            own = [place for place in note["stages"] if place.split("/")[1] == arm]
            raise ConfigError(
                f"arm {arm!r} is done under seed {seed}, but was told {was} and now {now}. Give it "
                f"another name (`variants`), or delete what came of it: {deletion(run, own)}"
            )


def check_sources(config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Raise `ConfigError` if an arm is done that came of a model or traces which are others now."""
    digest = functools.cache(of_files)
    for arm, seed, run, note in done(config, arms):
        for place in note["stages"]:
            if changed := stale(run / place, digest):
                raise ConfigError(
                    f"arm {arm!r} is done under seed {seed}, but {run / place} was made from another "
                    f"{' and '.join(changed)} than is there now. Delete what came of it: "
                    f"{deletion(run, [place])}"
                )


def done(
    config: CompareConfig, arms: Sequence[Arm]
) -> Iterator[tuple[str, int, Path, dict[str, Any]]]:
    """(arm, seed, the seed's run directory, note) of each that ended well."""
    for seed in config.seeds:
        for arm in arms:
            path = note_of(config, arm.name, seed)
            note = read_note(path) if path.exists() else {}
            if note.get("status") == "done":
                yield arm.name, seed, path.parents[1], note


def stale(stage: Path, digest: Callable[[str], str]) -> list[str]:
    """What a stage was made from that is something else now."""
    if not (stage / "config.yaml").exists():
        return []
    return changed_inputs(stage, sources(settings_in(stage / "config.yaml"), digest))


def deletion(run: Path, places: Sequence[str]) -> str:
    """The command that deletes stages of a seed, all that came of them, and the notes of those arms."""
    gone, size = dict.fromkeys(places), -1
    paths = sorted((run / "arms").glob("*.json"), key=operator.attrgetter("stem"))
    notes = {path: read_note(path)["stages"] for path in paths}
    while size != len(gone):  # a note names its stages in order, each after those that it needs
        size = len(gone)
        for stages in notes.values():
            first = next((i for i, place in enumerate(stages) if place in gone), len(stages))
            gone |= dict.fromkeys(stages[first:])
    told = [path for path, stages in notes.items() if gone.keys() & {*stages}]
    there = [run / place for place in gone if (run / place).exists()]
    return shlex.join(["rm", "-r", *map(str, [*there, *told])])
