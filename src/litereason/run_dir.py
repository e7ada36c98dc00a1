"""A stage's directory: its settings and inputs, whether they are the ones of an earlier run, its lock."""

import contextlib
import dataclasses
import hashlib
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from litereason import files
from litereason.errors import ConfigError, DataError
from litereason.fingerprint import of_files

# Where we are (a run that was moved is the same run), and how a stage runs, not what comes out.
NOT_COMPARED = {"run_dir", "workers", "dry_run", "launch", "rollout_batch_size"}
# Of a comparison: more of them may follow; what an arm alone was told, its note keeps.
NOT_COMPARED |= {"arms", "seeds", "list_arms", "changes", "variants"}
FILES = "data, task or reward file"
# Settings that name what other stages made, and what that is.
SOURCES = {"model": "model directory", "traces": "traces file"}
ELSEWHERE = "Take another --run_dir, or for a stage another --name"
LOCK, INPUTS = ".lock", "inputs.json"
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")


def open_stage(directory: Path, settings: Any, free: Collection[str] = ()) -> Path:
    """Make `directory` the home of a stage run with `settings` (a dataclass).

    The settings, the commit and the versions go to `config.yaml`. A directory that was begun with the
    same settings is taken up again.

    Args:
        free: settings that may differ, beside `NOT_COMPARED`: they say how this stage runs.

    Raises:
        ConfigError: it was begun with other settings, or what they name is not what it was; says which.
    """
    wanted = plain(dataclasses.asdict(settings))
    path = directory / "config.yaml"
    if path.exists():
        begun = settings_in(path)
        was, now = flat(defaults(settings)) | flat(moved(begun, wanted)), flat(wanted)
        left_out = NOT_COMPARED | {*free}
        compared = [
            k for k in {*was, *now} if k not in left_out and k.split(".")[0] not in left_out
        ]
        differ = sorted(k for k in compared if was.get(k) != now.get(k))
        if differ and {p.name for p in directory.iterdir()} - {LOCK, INPUTS} != {path.name}:
            changes = "; ".join(f"{k}: was {was.get(k)!r}, now {now.get(k)!r}" for k in differ)
            raise ConfigError(
                f"{directory} was begun with other settings ({changes}). To go on with it, give those "
                f"that it was begun with ({path}). {ELSEWHERE}, or delete the directory"
            )
        if not differ:
            same_inputs(directory, sources(wanted))
            return directory
        (directory / INPUTS).unlink(missing_ok=True)  # nothing was made of them
    record = {"settings": wanted, "commit": commit(), "versions": versions()}
    write_record(directory, record)
    same_inputs(directory, sources(wanted))
    return directory


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write a stage's `config.yaml`: `settings`, `commit` and `versions`."""
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    files.write_text(directory / "config.yaml", text)


def record_in(path: Path) -> dict[str, Any]:
    """What a stage's `config.yaml` says.

    Raises:
        DataError: it is broken.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        record, got = None, f"no YAML ({' '.join(str(error).split())})"
    else:
        got = f"{record!r:.80}"
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        remedy = f"Delete {path.parent} and run the stage again"
        if any(path.parent.glob("seed-*")):  # all that a comparison has made
            remedy = "Put it back as it was, or take another --run_dir"
        raise DataError(
            f"{path} is broken: {got}; expected `settings:` and what they are. {remedy}"
        )
    return record


def settings_in(path: Path) -> dict[str, Any]:
    """The settings in a stage's `config.yaml`."""
    return record_in(path)["settings"]


def moved(begun: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """`begun`, with paths inside its run as they are where the run has been moved or copied to."""

    def root(settings: dict[str, Any]) -> str:
        path = Path(str(settings.get("run_dir")))
        return str(path.parent if path.name.startswith("seed-") else path)  # of a comparison

    was, now = f"{root(begun)}/", f"{root(wanted)}/"
    paths = {k: v for k, v in begun.items() if isinstance(v, str) and v.startswith(was)}
    return begun | {name: now + path.removeprefix(was) for name, path in paths.items()}


def defaults(settings: Any) -> dict[str, Any]:
    """What an option counts as that did not exist yet when a directory was begun."""
    known = [f for f in dataclasses.fields(settings) if f.default is not dataclasses.MISSING]
    return plain({f.name: f.default for f in known})


@contextlib.contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """Hold a directory: no other process works in it until the block ends, or this process dies.

    Raises:
        ConfigError: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"another process writes to {directory}. {ELSEWHERE}, or wait for it"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held_stage(directory: Path, settings: Any, free: Collection[str] = ()) -> Iterator[Path]:
    """`open_stage` in a directory that is held until the block ends."""
    with only_run(directory):
        yield open_stage(directory, settings, free)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line (`task_options.events`)."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = prefix + key
        if isinstance(value, dict):
            found |= flat(value, "" if name == "trainer" else f"{name}.")
        else:
            found[name] = value
    return found


def plain(value: Any) -> Any:
    """Paths and tuples as YAML can hold them."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def commit() -> str | None:
    """The commit of the code that runs, if it is a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Installed versions of what results depend on."""
    found = {"litereason": metadata.version("litereason")}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def sources(settings: Mapping[str, Any], digest: Callable[[str], str] = of_files) -> dict[str, str]:
    """Digests of what other stages made and these settings name, where it is a path that is there."""
    named = {what: settings.get(key) for key, what in SOURCES.items()}
    paths = {what: Path(place).expanduser() for what, place in named.items() if place}
    return {what: digest(str(path)) for what, path in paths.items() if path.exists()}


def of_texts(texts: Sequence[str]) -> dict[str, str]:
    """Digest of data as text, for `same_inputs`."""
    return {FILES: hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()}


def changed_inputs(directory: Path, found: Mapping[str, str]) -> list[str]:
    """What is not as it was when a stage or a comparison was begun (see `same_inputs`)."""
    path = directory / INPUTS
    begun = files.read_json(path) if path.exists() else {}
    return [what for what in found if begun.get(what, found[what]) != found[what]]


def same_inputs(directory: Path, found: Mapping[str, str]) -> None:
    """Note what a stage or a comparison began with, or check that it is still the same.

    Args:
        found: digests, by what they are of.

    Raises:
        ConfigError: it is not.
    """
    if changed := changed_inputs(directory, found):
        raise ConfigError(
            f"{directory} was begun with another {' and '.join(changed)} under the same name. {ELSEWHERE}, "
            "or delete the directory"
        )
    path = directory / INPUTS
    begun = files.read_json(path) if path.exists() else {}
    if found.keys() - begun.keys():
        files.write_json(path, {**begun, **found})
