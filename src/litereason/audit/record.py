"""`RUN_DIR/audit/NAME/`: what an audit found, which items it saw, and what an evaluation says of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.audit.items import Item, digests
from litereason.tasks.base import Example


def save(directory: Path, result: dict[str, Any], items: Sequence[Item]) -> Path:
    """Write `audit.json`, and a digest of each item to `items.txt`, both or none."""
    with files.new_directory(directory) as partial:
        files.write_text(partial / "items.txt", "\n".join(digests(items)) + "\n")
        files.write_json(partial / "audit.json", result)
    return directory / "audit.json"


def warning(run_dir: Path, examples: Sequence[Example]) -> tuple[str, bool] | None:
    """What to warn of before these examples are judged, and whether an audit is to be made.

    That they were never audited in this run directory, or the comparison that it is a seed of, or that
    their audit found a leak or concluded nothing. One that concluded nothing would do so again: its verdict
    says what else can be done.
    """
    wanted = set(digests(examples))
    seen = False
    told = "this data was never audited for label leaks and near-duplicates", True
    homes = (run_dir, run_dir.parent)
    for path in (p for home in homes for p in sorted(home.glob("audit/[!.]*/audit.json"))):
        if wanted <= set((path.parent / "items.txt").read_text("utf-8").split()):
            found = files.read_json(path)
            if found["leak"]:
                return f"the audit of this data found a leak ({path}): {found['verdict']}", False
            if found["search"] is None:
                told = (
                    f"the audit of this data concluded nothing ({path}): {found['verdict']}",
                    False,
                )
            else:
                seen = True
    return None if seen else told
