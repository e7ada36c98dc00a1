"""Flawed Fictions (arXiv 2504.11900): real stories, half of them with a continuity error.

Reads JSON lines or a hub data set. The cleaned text is the default: in the files that could be had,
seven dashes at the end of the raw HTML give the label away (docs/flawed_fictions.md).
"""

import contextlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason.errors import ConfigError, DataError
from litereason.extras import need
from litereason.tasks.base import Example
from litereason.tasks.data import one_file, read_split, split_groups, text_field
from litereason.tasks.plot_holes import QUOTED, PlotHoleTask, quoted_lines
from litereason.tasks.wording import AT_ONCE, SILENT

HUB_ID = "kahuja/flawed-fictions"
SPLITS = ("train", "val", "test")
ASK = (
    "Read the story above. Does it contain a continuity error, a sentence that contradicts what the "
    "story said before?"
)
QUOTE = (
    "If it does, quote the sentences that make the error between <error_lines> and </error_lines>, and "
    "the sentences that they contradict between <contradicted_lines> and </contradicted_lines>."
)
BOXED = r"\boxed{Yes} if there is an error, or \boxed{No} if there is none"
GOLD = {"error_lines": "cont_error_lines", "contradicted_lines": "contradicted_lines"}
LABELS = {"yes": "Yes", "no": "No", 1: "Yes", 0: "No"}
HIDDEN = re.compile(r"<(style|script)\b.*?</\1\s*>", re.I | re.S)
BREAK = re.compile(r"<(?:br|hr)\b[^<>]*>|</(?:p|div|li|tr|h[1-6]|blockquote)\s*>", re.I)
MARKUP = re.compile(r"</?[a-z!][^<>]*>", re.I)  # "x < 3" is none
NUMBERED = re.compile(r"^\(?\d{1,3}[.):]\s+")  # of a list of quotes
# What ends a raw story: dashes of any kind, with or without a break before them.
TRAILING_DASHES = re.compile(r"[\s\-–—_]+$")


class FlawedFictionsTask(PlotHoleTask):
    """Flawed Fictions.

    Args:
        data: a directory with `train.jsonl`, `val.jsonl`..., one JSON Lines file (the same for every
            split), or a hub id.
        text: the field that holds the story; by default `story`, cleaned.
        raw: take the text as it is found, leaks included.
        splits: three sizes, e.g. [0.7, 0.15, 0.15]: cut one file, or one split of the hub, into train,
            val and test, so that variants of one story stay together (the field `family`, or else
            near-duplicates found by `litereason.audit.families`).
        part: what `splits` cuts, where `data` is a directory or a hub id.
    """

    name = "flawed_fictions"
    instructions = {  # noqa: RUF012
        "plain": f"{ASK} Think step by step. {QUOTE} End with {BOXED}.",
        "latent": f"{ASK} Think step by step. {SILENT} {QUOTE} End with {BOXED}.",
        "direct": f"{ASK} {AT_ONCE[:-1]}: {BOXED}.",
    }

    def __init__(
        self,
        data: str = HUB_ID,
        text: str = "story",
        raw: bool = False,
        splits: Sequence[float] | None = None,
        part: str = "flawed_fictions",
    ) -> None:
        if splits and (len(splits) != len(SPLITS) or min(splits) < 0 or sum(splits) <= 0):
            raise ConfigError(f"splits are {splits}; expected sizes of {', '.join(SPLITS)}")
        self.data, self.field, self.raw, self.splits, self.part = data, text, raw, splits, part

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        rows = read_split(self.data, self.part if self.splits else split)
        # Where some rows have gold sentences, a clean story without any has none: that is known too.
        known = any(row.get(name) for _, row in rows for name in GOLD.values())
        if known:
            need("pysbd", "train")
        found = [self._example(*row, i, known) for i, row in enumerate(rows, 1)]
        if self.splits:
            found = self._cut(found, split)
        if len({example.answer for example in found}) < 2:
            raise DataError(
                f"{self.data} [{split}] holds stories with the answer {found[0].answer!r} only; expected "
                "both Yes and No, otherwise a constant answer scores 100 %"
            )
        return found[:limit]

    def one_file(self) -> Path | None:
        return None if self.splits else one_file(self.data)

    def sentences(self, example: Example) -> list[str]:
        return sentences(example.text)

    def quotes(self, example: Example, completion: str, tag: str) -> list[str]:
        lines = (NUMBERED.sub("", clean(line)) for line in quoted_lines(completion, tag))
        return sentences("\n".join(lines))

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        if example.fields[QUOTED[0]] is None:  # spares the split into sentences
            return dict.fromkeys(("ceeval_full", "ceeval_pos", "strict"))
        return super().metrics(example, completion)

    def _example(self, where: str, row: dict[str, Any], number: int, known: bool) -> Example:
        text = text_field(where, row, self.field, "Name the right one with text=...")
        label = label_of(where, row)
        gold = {
            tag: gold_lines(where, row.get(name)) if known else None for tag, name in GOLD.items()
        }
        left = {self.field, "story_html", "answer", *GOLD.values()}
        fields = {k: v for k, v in row.items() if k not in left} | gold
        name = str(row.get("id", row.get("example_id", number)))
        return Example(name, text if self.raw else clean(text), label, fields)

    def _cut(self, examples: list[Example], split: str) -> list[Example]:
        assert self.splits
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}; with splits=... it is one of {list(SPLITS)}")
        if all("family" in example.fields for example in examples):
            groups = [example.fields["family"] for example in examples]
        else:
            from litereason.audit import families

            groups = families([example.text for example in examples])
        wanted = SPLITS.index(split)
        homes = split_groups(groups, self.splits)
        found = [one for one, home in zip(examples, homes, strict=True) if home == wanted]
        if not found:
            raise DataError(
                f"{self.data}: {len(examples)} stories in {len(set(groups))} families leave none for "
                f"{split!r} with splits={list(self.splits)}"
            )
        return found


def label_of(where: str, row: dict[str, Any]) -> str:
    """`Yes` or `No`, from a row's `answer` or else its `cont_error`.

    Raises:
        DataError: it has neither, or another value.
    """
    name = next((name for name in ("answer", "cont_error") if row.get(name) is not None), None)
    if name is None:
        raise DataError(
            f"{where}: neither 'answer' (Yes or No) nor 'cont_error' (1 or 0) is given; the fields are "
            f"{sorted(row)}"
        )
    told = row[name].strip().lower() if isinstance(row[name], str) else row[name]
    if not isinstance(told, (str, int, float)) or told not in LABELS:
        raise DataError(f"{where}: {name!r} is {row[name]!r}; expected Yes or No, or 1 or 0")
    return LABELS[told]


def clean(text: str) -> str:
    """Story text without markup and without the dashes that end most flawed ones."""
    text = HIDDEN.sub("", text)
    text = html.unescape(MARKUP.sub("", BREAK.sub("\n", text)))
    text = TRAILING_DASHES.sub("", text)
    # No-break spaces are spaces: some stories have them and some not
    return re.sub(r" ?\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text)).strip()


def sentences(text: str) -> list[str]:
    """The sentences of a cleaned text."""
    from litereason.traces import split_sentences

    return [piece.strip() for piece in split_sentences(text) if piece.strip()]


def gold_lines(where: str, value: Any) -> list[str]:
    """Gold sentences, from a list, a JSON list as text, `<li>` items, or a line each.

    Raises:
        DataError: none of these.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(json.JSONDecodeError):  # or a line that begins with a bracket
            value = json.loads(value)
    if isinstance(value, str):
        value = re.split(r"(?i)\n|</li>", value)
    if not isinstance(value, (list, type(None))) or not all(
        isinstance(v, str) for v in value or ()
    ):
        raise DataError(f"{where}: gold sentences are {value!r}; expected a list of text, or text")
    return [sentence for line in value or () for sentence in sentences(clean(line))]
