"""Rows of a split, from JSON lines or a hub data set, and splits that keep families together."""

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.errors import DataError


def read_split(
    data: str, split: str, config: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a split, each with where it stands, for errors.

    Args:
        data: a directory with `train.jsonl`, `test.jsonl`..., one JSON Lines file (the same for every
            split), or a hub id.
        split: which of them.
        config: the hub data set's configuration.

    Raises:
        DataError: there is no such split, or it cannot be read.
    """
    home = Path(data).expanduser()
    path = home / f"{split}.jsonl" if home.is_dir() else one_file(data)
    if path:
        return [(f"{path}, line {n}", row) for n, row in files.numbered_jsonl(path)]
    from litereason.extras import need

    datasets = need("datasets", "train")
    try:
        loaded = datasets.load_dataset(data, config, split=split)
    except Exception as error:
        raise DataError(
            f"cannot load {data!r}, split {split!r}: {error}. Give a JSON Lines file or a directory of "
            "them as --data"
        ) from error
    return [(f"{data} [{split}], row {n}", dict(row)) for n, row in enumerate(loaded, 1)]


def one_file(data: str) -> Path | None:
    """`data` as the one file that serves every split, if it is none of a directory and a hub id."""
    path = Path(data).expanduser()
    return path if not path.is_dir() and (path.suffix == ".jsonl" or path.exists()) else None


def text_field(where: str, row: dict[str, Any], name: str, hint: str = "") -> str:
    """The text in a row's field `name`.

    Raises:
        DataError: there is none; says where, and what the row has.
    """
    text = row.get(name)
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{where}: field {name!r} holds no text but {text!r}; the fields are {sorted(row)}. {hint}"
        )
    return text


def split_groups(groups: Sequence[Hashable], shares: Sequence[float]) -> list[int]:
    """Which split each item goes to, so that no group (a family of near-duplicates) is in two.

    Groups go, large ones first, to the split that lacks most items; the same input gives the same
    splits.

    Args:
        groups: the group of each item.
        shares: wanted size of each split, relative to the others.
    """
    sizes = Counter(groups)
    order = list(sizes)
    random.Random(0).shuffle(order)
    room = [len(groups) * share / sum(shares) for share in shares]
    home: dict[Hashable, int] = {}
    for group in sorted(order, key=lambda group: -sizes[group]):
        home[group] = room.index(max(room))
        room[home[group]] -= sizes[group]
    return [home[group] for group in groups]
