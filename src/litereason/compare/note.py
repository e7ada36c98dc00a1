"""How an arm ended under a seed: `arms/ARM.json` in the seed's run directory."""

from pathlib import Path
from typing import Any

from litereason import files
from litereason.errors import DataError


def note_path(run: Path, arm: str) -> Path:
    """Where the note of an arm is; `run` is the seed's run directory."""
    return run / "arms" / f"{arm}.json"


def read_note(path: Path) -> dict[str, Any]:
    """`status` (done or failed), `reason`, `stages` (their places), `cost` and `told`.

    Raises:
        DataError: it is broken.
    """
    try:
        note = files.read_json(path)
    except DataError as error:
        raise _broken(path, "no JSON", str(error)) from error
    kinds = {"status": str, "stages": list, "cost": (dict, type(None))}
    for key, kind in kinds.items():
        if not isinstance(note, dict) or key not in note or not isinstance(note[key], kind):
            found = note.get(key, "missing") if isinstance(note, dict) else note
            raise _broken(path, key, found)
    for place in note["stages"]:
        if not isinstance(place, str) or place.count("/") != 1:
            raise _broken(path, "stages", place)
    for name, value in (note["cost"] or {}).items():
        if not isinstance(value, (int, float, type(None))):
            raise _broken(path, f"cost of {name}", value)
    return note


def _broken(path: Path, key: str, found: Any) -> DataError:
    return DataError(
        f"{path} is broken ({key}: {found!r:.60}). Delete it: the same `litereason compare` command runs "
        "what is missing of the arm and writes it again"
    )
