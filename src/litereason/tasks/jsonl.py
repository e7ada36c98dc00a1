"""A task without a class: rows of a file, and a reward function (`--data FILE --reward FILE.py:name`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason.errors import DataError
from litereason.tasks.base import Example, Task, check_mode
from litereason.tasks.data import one_file, read_split, text_field
from litereason.tasks.user_code import function_from_file
from litereason.tasks.wording import AT_ONCE, SILENT, boxed

Row = tuple[str, dict[str, Any]]
ENDINGS = {"plain": "", "latent": f"\n{SILENT}", "direct": f"\n{AT_ONCE}"}


class JsonlTask(Task):
    """Rows with a `prompt`, an `answer` and, if you like, an `id` and more fields.

    Args:
        data: a directory with `train.jsonl`, `test.jsonl`..., one JSON Lines file (the same for every
            split), or a hub id.
        reward: a function in TRL's signature, as `path/to/file.py:name`. It is called with `prompts`
            (as in the file) and `completions`, both text, and a list of every other field by its name.
            Without one, a completion is right if its last `\\boxed{}` holds the `answer`.
    """

    name = "jsonl"

    def __init__(self, data: str, reward: str | None = None) -> None:
        self.data = data
        self.judge = function_from_file(reward) if reward else None

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        rows = read_split(self.data, split)
        check_columns(rows)
        columns = list(dict.fromkeys(name for _, row in rows for name in row if name != "prompt"))
        return [self._example(*row, str(i), columns) for i, row in enumerate(rows, 1)][:limit]

    def one_file(self) -> Path | None:
        return one_file(self.data)

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return example.text + ENDINGS[check_mode(mode)]

    def reward(self, example: Example, completion: str) -> float | None:
        return self.rewards([example], [completion])[0]

    def rewards(
        self, examples: Sequence[Example], completions: Sequence[str]
    ) -> list[float | None]:
        if self.judge is None:
            pairs = zip(examples, completions, strict=True)
            return [float(_same(boxed(text), example.answer)) for example, text in pairs]
        columns = {name: [e.fields[name] for e in examples] for name in examples[0].fields}
        told = {"prompts": [e.text for e in examples], "completions": list(completions)}
        return self.judge(**columns | told)

    def _example(self, where: str, row: dict[str, Any], name: str, columns: list[str]) -> Example:
        text = text_field(where, row, "prompt")
        answer = row.get("answer")
        if isinstance(answer, bool) or not isinstance(answer, (str, int, float, type(None))):
            raise DataError(f"{where}: 'answer' is {answer!r}; expected text or a number")
        if answer is None and self.judge is None:
            raise DataError(
                f"{where}: no 'answer'; the fields are {sorted(row)}. Give one, or a function that "
                "needs none with --reward path/to/file.py:name"
            )
        fields = {column: row.get(column) for column in columns}
        return Example(
            str(row.get("id", name)), text, "" if answer is None else str(answer), fields
        )


def check_columns(rows: Sequence[Row]) -> None:
    """Check that every field holds one type in all rows (or nothing); whole numbers are numbers.

    Raises:
        DataError: one does not; names both places.
    """
    seen: dict[str, tuple[str, type]] = {}
    for where, row in rows:
        for name, value in row.items():
            kind = float if type(value) is int else type(value)
            before, known = (
                seen.setdefault(name, (where, kind)) if value is not None else ("", kind)
            )
            if kind is not known:
                raise DataError(
                    f"{where}: {name!r} is {value!r} ({_word(kind)}), but {_word(known)} in {before}. "
                    "Write it alike everywhere"
                )


def _word(kind: type) -> str:
    words = {str: "text", float: "a number", bool: "true or false", list: "a list"}
    return words.get(kind, "an object")


def _same(found: str | None, answer: str) -> bool:
    return found is not None and found.casefold() == answer.strip().casefold()
