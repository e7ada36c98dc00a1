"""`litereason audit`: what a data set gives away, for people, or as JSON for programs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from litereason.audit.examine import STEPS, examine
from litereason.audit.items import Item, from_files, from_task
from litereason.audit.record import save
from litereason.console import progress, say
from litereason.errors import ConfigError
from litereason.options import command, option

NOT_CONCLUDED = 3  # exit status: 2 is that of bad input


@dataclasses.dataclass(kw_only=True)
class AuditConfig:
    """Look for label leaks and near-duplicates in FILE.jsonl ... or in a task's examples.

    The exit status is 0 if none is found, 1 if one is, 2 on bad input, and 3 if nothing can be concluded.
    """

    files: tuple[str, ...] = option((), "JSON Lines files; also as the first words of the command")
    text: str | None = option(None, "with files: the field that holds the text")
    label: str | None = option(None, "with files: the field that holds the label")
    group: str | None = option(
        None,
        "items with the same value in this field are not independent; default: near-duplicate "
        "families; with --task also id: all are",
    )
    split: str | None = option(
        None, "with files: the field that names the split (default: by file); with --task: a,b"
    )
    task: str | None = option(None, "or: a task by name, or path/to/file.py:Class")
    task_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "the task's own, as --task_options.NAME VALUE"}
    )
    limit: int | None = option(None, "with --task: so many examples of a split only")
    max_words: int | None = option(None, "list items with more words than this")
    run_dir: str | None = option(
        None, "write RUN_DIR/audit/NAME; default: nowhere, with --task runs/default"
    )
    name: str | None = option(None, "default: the split, or the first file's name")
    json: bool = option(False, "print everything as JSON")

    def __post_init__(self) -> None:
        if bool(self.files) == bool(self.task):
            raise ConfigError("give either FILE.jsonl or --task NAME")
        if self.files and not (self.text and self.label):
            raise ConfigError("--text and --label must name the fields of the files to look at")
        if self.task and (self.text or self.label):
            raise ConfigError("--text and --label go with files; a task knows its own")
        for name in ("limit", "max_words"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"--{name} is {value}; expected at least 1, or leave it out")
        if self.files and self.limit:
            raise ConfigError("--limit goes with --task")

    def items(self) -> list[Item]:
        """What is to be audited."""
        if self.task:
            splits = (self.split or "train").split(",")
            return from_task(self.task, self.task_options, splits, self.limit, self.group)
        assert self.text and self.label
        return from_files(self.files, self.text, self.label, self.group, self.split)

    def directory(self) -> Path | None:
        """Where the audit is kept."""
        run = self.run_dir or ("runs/default" if self.task else None)
        default = Path(self.files[0]).stem if self.files else (self.split or "train")
        return Path(run) / "audit" / (self.name or default.replace(",", "-")) if run else None


def audit(config: AuditConfig) -> int:
    """Audit and tell; returns the exit status: 1 if there is a leak, 3 if none could be looked for."""
    items = config.items()
    with progress() as bar:
        task = bar.add_task("audit", total=len(STEPS), note="")

        def step(name: str) -> None:
            bar.update(task, completed=STEPS.index(name), note=name)

        result = examine(items, config.max_words, step)
        bar.update(task, completed=len(STEPS), note="")
    result = {"command": command("audit", config), **result}
    if config.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console(highlight=False))
    if directory := config.directory():
        say(f"audit: {save(directory, result, items)}")
    return NOT_CONCLUDED if result["search"] is None else int(result["leak"])


def show(result: dict[str, Any], out: Console) -> None:
    """The audit for people, the verdict first."""
    searched = result["search"]
    mark, style = ("LEAK", "bold red") if result["leak"] else ("OK", "bold green")
    if searched is None:
        mark, style = "NOT CONCLUDED", "bold yellow"
    out.print(f"{mark}:", style=style, end=" ")
    out.print(result["verdict"], markup=False, soft_wrap=True)
    splits = ", ".join(f"{name} {size}" for name, size in result["splits"].items())
    labels = ", ".join(f"{name!r:.40} {size}" for name, size in result["labels"].items())
    more = result["different_labels"] - len(result["labels"])
    labels += f" and {more} more" if more > 0 else ""
    out.print(f"\n{result['items']} items ({splits}); labels: {labels}", markup=False)
    if searched:
        _show_search(searched, result, out)
    _show_duplicates(result["duplicates"], out)
    _show_lengths(result["lengths"], out)


def _show_search(search: dict[str, Any], result: dict[str, Any], out: Console) -> None:
    rows, title = search["leaks"], "Rules that beat chance"
    if not rows:
        rows, title = search["best"], "No rule beats chance; the best of each kind"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("a text that", "is", "", "items", "right", "p"):
        table.add_column(name, overflow="fold")
    for one in rows:
        says = one["text"] + (f" (and {one['alike']} rules alike)" if one["alike"] else "")
        cells = [says, repr(one["label_if"]), one["kind"], str(one["holds"])]
        table.add_row(*cells, f"{one['accuracy']:.1%}", f"{one['p']:.3f}")
    out.print(table, markup=False)
    probes = Table(box=box.SIMPLE_HEAD, title="Cross-validated probes", title_justify="left")
    for name in ("a classifier that sees", "", "right", "majority", "p"):
        probes.add_column(name)
    for one in search["probes"]:
        figures = f"{one['accuracy']:.1%}", f"{one['majority']:.1%}", f"{one['p']:.3f}"
        probes.add_row(one["name"], one["kind"], *figures)
    out.print(probes)
    out.print(
        f"p: corrected for {search['rules']} rules by {search['permutations']} shufflings of the labels "
        f"over {result['groups']} groups ({result['grouped_by']}), the least being "
        f"{1 / (1 + search['permutations']):.3f}; one search in a hundred reaches "
        f"{search['by_chance']:.1%} by chance. What content probes tell may be honest.",
        style="dim",
    )


def _show_duplicates(found: dict[str, Any], out: Console) -> None:
    out.print(
        f"\nNear-duplicates: {found['items']} items in {found['families']} families; {found['identical']} "
        f"repeat another item exactly; {found['with_different_labels']} families have different labels; "
        f"{found['across_splits']} pairs across splits"
    )
    for a, b in found["pairs_across_splits"]:
        out.print(f"  across splits: {a} ~ {b}", markup=False)
    for one in found["largest"]:
        splits = ", ".join(f"{name} {size}" for name, size in one["splits"].items())
        out.print(
            f"  {one['size']} items ({splits}): {', '.join(one['items'])}: {one['begins']!r}",
            markup=False,
            soft_wrap=True,
        )


def _show_lengths(found: dict[str, Any], out: Console) -> None:
    out.print(f"\nWords: median {found['median_words']:g}, longest {found['longest_words']}")
    for key, says in (
        ("empty", "empty"),
        ("far_longer", "far longer than the rest"),
        ("over_max_words", "over --max_words"),
    ):
        if (listed := found[key]) and listed["count"]:
            shown = ", ".join(listed["items"])
            out.print(f"  {listed['count']} {says}: {shown}", markup=False, style="yellow")
