"""What is audited: texts with a label, out of JSON lines or a task.

Everything that can be wrong with the data is found here, before any search. Empty texts are let in:
they are a finding, not an error.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.errors import ConfigError, DataError, did_you_mean
from litereason.tasks import get_task
from litereason.tasks.base import Example, preflight

TYPES = {"str": "text", "bool": "true/false", "int": "a whole number", "NoneType": "null"}
TYPES |= {"float": "a number with a fraction", "dict": "an object", "list": "a list"}


@dataclasses.dataclass(frozen=True)
class Item:
    """One text with its label.

    Attributes:
        id: where it is found: `file.jsonl:12`, or the example's id.
        text: what is searched for cues.
        label: what must not be told by them.
        split: the split it belongs to.
        group: items of one group are not independent (variants of a story); None if not given.
    """

    id: str
    text: str
    label: str
    split: str
    group: str | None = None


def from_files(
    paths: Sequence[str], text: str, label: str, group: str | None, split: str | None
) -> list[Item]:
    """Items of JSON Lines files; each file is a split unless the field `split` says otherwise.

    A text may be a list of strings (the sentences of a trace); they are joined by line breaks.

    Raises:
        ConfigError: no item has one of the named fields.
        DataError: a file cannot be read, an item lacks a field, or has another type in it than the
            first item (with its line).
    """
    found: list[Item] = []
    kinds: dict[str, tuple[str, str]] = {}
    for path in paths:
        for number, row in files.numbered_jsonl(path):
            where = f"{path}, line {number}"
            values = {
                name: _value(row, name, where, name == text, kinds)
                for name in (text, label, group, split)
                if name is not None
            }
            found.append(
                Item(
                    id=f"{Path(path).name}:{number}",
                    text=values[text],
                    label=values[label],
                    split=values[split] if split else Path(path).stem,
                    group=values[group] if group else None,
                )
            )
    return found


def _value(
    row: dict[str, Any], name: str, where: str, is_text: bool, kinds: dict[str, tuple[str, str]]
) -> str:
    """A field as text, after a look at its type; `kinds` holds the first (type, line) of each field."""
    if name not in row:
        error = DataError if name in kinds else ConfigError
        raise error(
            f"{where}: no field {name!r}; the fields are {sorted(row)}.{did_you_mean(name, row)}"
        )
    value = row[name]
    kind = type(value).__name__
    first, line = kinds.setdefault(name, (kind, where))
    if kind != first:
        raise DataError(
            f"{where}: {name!r} is {TYPES[kind]} ({str(value)[:40]!r}), but {TYPES[first]} in {line}; "
            "expected one type in all lines"
        )
    if is_text and kind == "list" and all(isinstance(part, str) for part in value):
        kind, value = "str", "\n".join(value)
    if kind == "str" or (kind in ("bool", "int") and not is_text):
        return str(value).encode("utf-8", "replace").decode()  # JSON may hold halves of characters
    wanted = "text or a list of texts" if is_text else "text, true/false or a whole number"
    raise DataError(f"{where}: {name!r} is {TYPES[kind]} ({str(value)[:40]!r}); expected {wanted}")


def from_task(
    name: str, options: dict[str, Any], splits: Sequence[str], limit: int | None, group: str | None
) -> list[Item]:
    """A task's examples as items: the text, with the right answer as its label.

    Raises:
        ConfigError: no such task, or a `group` that is neither `id` nor a field of its examples.
        DataError: a split cannot be read.
    """
    task = get_task(name, options)
    found = []
    for split in splits:
        for example in preflight(task, split, limit, "plain"):
            fields = {**example.fields, "id": f"{split}:{example.id}"}
            if group and group not in fields:
                raise ConfigError(
                    f"--group is {group!r}, but example {example.id!r} has the fields {sorted(fields)}"
                )
            member = str(fields[group]) if group else None
            found.append(Item(f"{split}:{example.id}", example.text, example.answer, split, member))
    return found


def digests(items: Iterable[Item | Example]) -> list[str]:
    """A digest of each text with its label, so that an evaluation can tell what was audited."""
    return [
        hashlib.blake2b(f"{one.text}\0{_label(one)}".encode("utf-8", "surrogatepass"), digest_size=8)
        .hexdigest()
        for one in items
    ]  # fmt: skip


def _label(one: Item | Example) -> str:
    return one.label if isinstance(one, Item) else one.answer
