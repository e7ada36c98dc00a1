"""`litereason prefer`: blinded pairs of chapters for judges, and strengths from what they say.

Judges are people or models of the user's; none is called here. Imports no torch.
"""

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from litereason import files
from litereason.bradley_terry import Judgement, strengths
from litereason.console import say, spread
from litereason.errors import ConfigError, DataError

SCORES = {"a": 1.0, "tie": 0.5, "b": 0.0}  # what text_a earns by each verdict


@dataclasses.dataclass(kw_only=True)
class PreferConfig:
    """Make blinded pairs of the arms' chapters; with judgements, rank the arms."""

    run_dir: str = dataclasses.field(
        default="runs/default", metadata={"help": "outputs go to RUN_DIR/preference"}
    )
    arms: tuple[str, ...] = dataclasses.field(
        default=(),
        metadata={
            "help": 'names in RUN_DIR/chapters or chapters.jsonl files, "[a, b]"; default: all'
        },
    )
    judgements: str | None = dataclasses.field(
        default=None, metadata={"help": "JSONL with `id` and `winner`: a, b or tie"}
    )
    seed: int = dataclasses.field(default=0, metadata={"help": "of the order that judges see"})

    def __post_init__(self) -> None:
        if self.arms and self.judgements:
            raise ConfigError("--judgements are of the pairs made before; leave --arms out")


def prefer(config: PreferConfig) -> Path:
    """Write `comparisons.jsonl` and its `key.jsonl`; or, with judgements, `strengths.json`."""
    directory = Path(config.run_dir) / "preference"
    if config.judgements is None:
        return write_pairs(directory, read_arms(config), config.seed)
    key = directory / "key.jsonl"
    if not key.is_file():
        raise DataError(f"no such file: {key}; `litereason prefer` without --judgements writes it")
    found = strengths(read_judgements(Path(config.judgements), key), config.seed)
    unjudged = len(files.read_jsonl(key)) - found["judged_comparisons"]
    show(found, unjudged)
    return files.write_json(directory / "strengths.json", {**found, "unjudged": unjudged})


def read_arms(config: PreferConfig) -> dict[str, dict[tuple[str, int], str]]:
    """The chapters of each arm, by item and sample.

    Raises:
        ConfigError: less than two arms, or two of one name.
        DataError: a file that is not there, or a line that is no chapter.
    """
    home = Path(config.run_dir) / "chapters"
    if config.arms:
        paths = [
            Path(a) if a.endswith(".jsonl") else home / a / "chapters.jsonl" for a in config.arms
        ]
    else:
        paths = sorted(home.glob("*/chapters.jsonl"))
    names = [path.resolve().parent.name for path in paths]
    if len(paths) < 2 or len({*names}) < len(names):
        raise ConfigError(
            f"the arms are {names}; expected at least two, each with its own name (the directory of its "
            "chapters.jsonl). `litereason write` makes RUN_DIR/chapters/NAME/chapters.jsonl"
        )
    return {name: read_chapters(path) for name, path in zip(names, paths, strict=True)}


def read_chapters(path: Path) -> dict[tuple[str, int], str]:
    """The texts of a `chapters.jsonl`, by `item` and `sample` (0 where a line has none).

    Raises:
        DataError: a line without text or item, or two of one item and sample.
    """
    found: dict[tuple[str, int], str] = {}
    for number, row in enumerate(files.read_jsonl(path), 1):
        item, sample, text = row.get("item"), row.get("sample", 0), row.get("text")
        if not isinstance(item, str) or not isinstance(text, str) or type(sample) is not int:
            raise DataError(
                f"{path}, line {number}: item {item!r}, sample {sample!r}, text {str(text)[:40]!r}; "
                "expected text in 'item' and 'text' and a whole number in 'sample'"
            )
        if (item, sample) in found:
            raise DataError(f"{path}, line {number}: a second sample {sample} of item {item!r}")
        found[item, sample] = text
    return found


def make_pairs(
    arms: Mapping[str, Mapping[tuple[str, int], str]], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every two arms' chapters of one item and sample, blinded, and the key to them.

    Ids tell nothing, lines are shuffled, and each of two arms is `a` in half of their comparisons.

    Returns:
        (lines with `id`, `item`, `text_a`, `text_b`; lines with `id`, `item`, `sample`, `a`, `b`).

    Raises:
        DataError: an arm has no chapter of an item that another has one of.
    """
    chance = random.Random(seed)
    key: list[dict[str, Any]] = []
    for pair in itertools.combinations(sorted(arms), 2):
        common = sorted(arms[pair[0]].keys() & arms[pair[1]].keys())
        chance.shuffle(common)
        turned = chance.random() < 0.5
        for place, (item, sample) in enumerate(common):
            a, b = pair if (place % 2 == 0) != turned else pair[::-1]
            told = "\0".join((str(seed), item, str(sample), *pair)).encode()
            name = hashlib.blake2b(told, digest_size=6).hexdigest()
            key.append({"id": name, "item": item, "sample": sample, "a": a, "b": b})
    if alone := sorted({*arms} - {row[side] for row in key for side in "ab"}):
        raise DataError(
            f"arms {alone} have no chapter of an item that another arm has one of; write them from plans "
            "for the same pairs"
        )
    chance.shuffle(key)
    texts = [
        {"id": row["id"], "item": row["item"]}
        | {f"text_{side}": arms[row[side]][row["item"], row["sample"]] for side in "ab"}
        for row in key
    ]
    return texts, key


def write_pairs(
    directory: Path, arms: Mapping[str, Mapping[tuple[str, int], str]], seed: int
) -> Path:
    """Write `comparisons.jsonl` for judges and `key.jsonl` for you; returns the former.

    Raises:
        ConfigError: other comparisons are there already, which may have been judged.
    """
    texts, key = make_pairs(arms, seed)
    out, secret = directory / "comparisons.jsonl", directory / "key.jsonl"
    if out.exists():
        if files.read_jsonl(out) != texts or files.read_jsonl(secret) != key:
            raise ConfigError(
                f"{directory} holds comparisons of other chapters, arms or another seed, which may have "
                "been judged. Take another --run_dir, or delete the directory"
            )
        say(f"prefer: already complete, {out}")
        return out
    files.write_jsonl(secret, key)
    files.write_jsonl(out, texts)
    items = len({row["item"] for row in key})
    say(f"prefer: {len(key)} comparisons of {len(arms)} arms on {items} items, {out}")
    return out


def read_judgements(path: Path, key: Path) -> list[Judgement]:
    """Judgements with the arms that the key names. A line may name its `judge`, if there are several.

    Raises:
        DataError: a winner that is none of a, b, tie; an id that the key lacks; a comparison that the same
            judge judged twice. Names the line.
    """
    known = {row["id"]: row for row in files.read_jsonl(key)}
    found: dict[tuple[str, Any], Judgement] = {}
    for number, row in enumerate(files.read_jsonl(path), 1):
        name, winner, judge = row.get("id"), row.get("winner"), row.get("judge")
        place = f"{path}, line {number}"
        if not isinstance(winner, str) or winner not in SCORES:
            raise DataError(f"{place}: the winner is {winner!r}; expected one of {list(SCORES)}")
        if not isinstance(name, str) or name not in known:
            raise DataError(f"{place}: no comparison has the id {name!r} in {key}")
        if judge is not None and not isinstance(judge, str):
            raise DataError(f"{place}: the judge is {judge!r}; expected a name, or nothing")
        if (name, judge) in found:
            who = f"{judge!r} judged" if judge else "a second judgement of"
            raise DataError(
                f"{place}: {who} comparison {name!r}{' twice' if judge else ''}; keep one. Several judges "
                "need a 'judge' of their own on each line"
            )
        item, a, b = (known[name][field] for field in ("item", "a", "b"))
        found[name, judge] = Judgement(name, item, a, b, SCORES[winner])
    return list(found.values())


def show(found: Mapping[str, Any], unjudged: int) -> None:
    """Arms and pairs as tables."""
    out = Console(highlight=False)
    table = Table("arm", "strength", "win rate", "judgements", "ties", box=None)
    for row in found["arms"]:
        counts = str(row["judgements"]), str(row["ties"])
        table.add_row(row["arm"], spread(row["strength"]), spread(row["win_rate"]), *counts)
    out.print(table)
    pairs = Table("of two", "difference of strengths", "the first wins", "judgements", box=None)
    for row in found["pairs"]:
        figures = spread(row["difference"]), spread(row["win_rate"]), str(row["judgements"])
        pairs.add_row(f"{row['a']}, {row['b']}", *figures)
    out.print(pairs)
    out.print(
        f"text a wins {spread(found['a_wins'])} (0.5: its place does not matter)", markup=False
    )
    figures = [one[name] for one in found["arms"] for name in ("strength", "win_rate")]
    figures += [one[name] for one in found["pairs"] for name in ("difference", "win_rate")]
    if any(one["low"] is None for one in [*figures, found["a_wins"]]):
        out.print(
            "[–]: no interval can be told: all items agree, there is one only, or an arm won everything",
            markup=False,
        )
    say(
        f"prefer: {found['judgements']} judgements on {found['items']} items, {unjudged} comparisons not "
        "judged; 95 % intervals over items"
    )
