"""Flawed Fictions (arXiv 2504.11900): real stories, half of them with a continuity error.

Reads JSON lines or a hub data set. The cleaned text is the default: in the files that could be had,
seven dashes at the end of the raw HTML give the label away (METHOD section 4).
"""

import html
import re
from pathlib import Path
from typing import Any

from litereason import files
from litereason.errors import DataError
from litereason.tasks.base import Example
from litereason.tasks.plot_holes import SILENT, PlotHoleTask

HUB_ID = "kahuja/flawed-fictions"
ASK = (
    "Read the story above. Does it contain a continuity error, a sentence that contradicts what the "
    "story said before?"
)
QUOTE = (
    "If it does, quote the sentences that are contradicted between <contradicted_lines> and "
    "</contradicted_lines>."
)
BOXED = r"\boxed{Yes} if there is an error, or \boxed{No} if there is none"
# What ends a raw story: dashes of any kind, with or without a break before them.
TRAILING_DASHES = re.compile(r"[\s\-–—_]+$")


class FlawedFictionsTask(PlotHoleTask):
    """Flawed Fictions.

    Args:
        data: a directory with `train.jsonl`, `val.jsonl`..., one JSON Lines file (the same for every
            split), or a hub id.
        text: the field that holds the story; by default `story`, cleaned.
        raw: take the text as it is found, leaks included.
    """

    name = "flawed_fictions"
    instructions = {  # noqa: RUF012
        "plain": f"{ASK} Think step by step. {QUOTE} End with {BOXED}.",
        "latent": f"{ASK} Think step by step. {SILENT} {QUOTE} End with {BOXED}.",
        "direct": f"{ASK} Answer at once, without any reasoning: {BOXED}.",
    }

    def __init__(self, data: str = HUB_ID, text: str = "story", raw: bool = False) -> None:
        self.data, self.field, self.raw = data, text, raw

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        source, rows = self._rows(split)
        found = [self._example(source, i, row) for i, row in enumerate(rows, 1)]
        if len({example.answer for example in found}) < 2:
            raise DataError(
                f"{source} holds stories with the answer {found[0].answer!r} only; expected both "
                "Yes and No, otherwise a constant answer scores 100 %"
            )
        return found[:limit]

    def _rows(self, split: str) -> tuple[str, list[dict[str, Any]]]:
        path = Path(self.data).expanduser()
        if path.is_dir():
            path = path / f"{split}.jsonl"
        if path.suffix == ".jsonl" or path.exists():
            return str(path), files.read_jsonl(path)
        from litereason.extras import need

        datasets = need("datasets", "train")
        try:
            loaded = datasets.load_dataset(self.data, split=split)
        except Exception as error:
            raise DataError(
                f"cannot load {self.data!r}, split {split!r}: {error}. Give a JSON Lines file or a "
                "directory of them with data=..."
            ) from error
        return f"{self.data} [{split}]", [dict(row) for row in loaded]

    def _example(self, source: str, number: int, row: dict[str, Any]) -> Example:
        text, answer = row.get(self.field), row.get("answer", row.get("cont_error"))
        where = f"{source}, item {number}"
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{where}: field {self.field!r} holds no text; the fields are {sorted(row)}. "
                "Name the right one with text=..."
            )
        if isinstance(answer, bool):
            answer = "Yes" if answer else "No"
        if str(answer).strip().lower() not in ("yes", "no"):
            raise DataError(f"{where}: 'answer' is {answer!r}; expected Yes or No")
        name = str(row.get("id", row.get("example_id", number)))
        fields = {k: v for k, v in row.items() if k not in (self.field, "story_html", "answer")}
        return Example(
            name, text if self.raw else clean(text), str(answer).strip().capitalize(), fields
        )


def clean(text: str) -> str:
    """Story text without markup and without the dashes that end most flawed ones."""
    text = re.sub(r"(?i)<br\s*/?>|</p>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    text = TRAILING_DASHES.sub("", text)
    return re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).strip()
