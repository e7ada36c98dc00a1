"""Sums in words: GSM8K (arXiv 2110.14168) and GSM-Hard (arXiv 2211.10435), checked by math-verify.

Rows come from the hub or from JSON lines with the same fields. The answer is the last `\\boxed{}`.
"""

import abc
import functools
import math
import re
import threading
from pathlib import Path
from typing import Any

from litereason.errors import DataError
from litereason.extras import need
from litereason.tasks.base import Example, Task, check_mode
from litereason.tasks.data import one_file, read_split, text_field
from litereason.tasks.wording import AT_ONCE, SILENT, boxed

BOXED = r"the number in \boxed{}"
INSTRUCTIONS = {
    "plain": f"Think step by step, then end with {BOXED}.",
    "latent": f"Think step by step, then end with {BOXED}. {SILENT}",
    "direct": f"{AT_ONCE[:-1]}: {BOXED}.",
}
SECONDS = 5  # for an answer like 9^{9^{9^9}}
SCIENTIFIC = re.compile(r"(?<![\w.])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?!\w)")
CALCULATOR = re.compile(r"<<[^<>]*>>")  # GSM8K's notes for a calculator


class MathTask(Task, abc.ABC):
    """Questions with a number as the answer. A subclass names the data.

    Args:
        data: a directory with `train.jsonl`, `test.jsonl`, one JSON Lines file (the same for every
            split), or a hub id.
    """

    question: str
    hub_config: str | None = None

    def __init__(self, data: str) -> None:
        self.data = data

    @abc.abstractmethod
    def gold(self, where: str, row: dict[str, Any]) -> str:
        """The right number of a row, as text."""

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        need("math_verify", "math")
        rows = read_split(self.data, split, self.hub_config)
        return [self._example(*row, str(i)) for i, row in enumerate(rows[:limit], 1)]

    def one_file(self) -> Path | None:
        return one_file(self.data)

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return f"{example.text}\n{INSTRUCTIONS[check_mode(mode)]}"

    def reward(self, example: Example, completion: str) -> float | None:
        answer = boxed(completion)
        return float(answer is not None and equal(example.answer, answer))

    def _example(self, where: str, row: dict[str, Any], name: str) -> Example:
        text = text_field(where, row, self.question).strip()
        return Example(str(row.get("id", name)), text, self.gold(where, row), dict(row))


class Gsm8kTask(MathTask):
    """GSM8K: rows with `question`, and an `answer` that ends with `#### 42`."""

    name = "gsm8k"
    question, hub_config = "question", "main"

    def __init__(self, data: str = "openai/gsm8k") -> None:
        super().__init__(data)

    def gold(self, where: str, row: dict[str, Any]) -> str:
        _, mark, number = str(row.get("answer")).rpartition("####")
        if not mark or not is_number(number):
            raise DataError(
                f"{where}: 'answer' is {row.get('answer')!r}; expected steps that end with #### and a "
                "number"
            )
        return number.strip()

    def demonstration(self, example: Example) -> str | None:
        steps = CALCULATOR.sub("", example.fields["answer"].rpartition("####")[0]).strip()
        return f"{steps}\n\\boxed{{{example.answer}}}"


class GsmHardTask(MathTask):
    """GSM-Hard: rows with `input`, and a number `target`. A test set, which the hub calls `train`."""

    name = "gsm_hard"
    question = "input"

    def __init__(self, data: str = "reasoning-machines/gsm-hard") -> None:
        super().__init__(data)

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        hub = self.data == "reasoning-machines/gsm-hard"
        if hub and split != "test":
            raise DataError(f"GSM-Hard is a test set: its only split is 'test', not {split!r}")
        return super().examples("train" if hub else split, limit)

    def gold(self, where: str, row: dict[str, Any]) -> str:
        target = row.get("target")
        if isinstance(target, bool) or not is_number(str(target)):
            raise DataError(f"{where}: 'target' is {target!r}; expected a number")
        return str(target)


def is_number(text: str) -> bool:
    """Whether a gold answer is one number, written plainly (`1,234`, `-2.5`, `3e6`)."""
    try:
        return math.isfinite(float(text.replace(",", "")))
    except ValueError:
        return False


@functools.lru_cache(maxsize=10_000)
def equal(gold: str, answer: str) -> bool:
    """Whether two ways to write a number mean the same: `1,234`, `-3.5`, `1e3`, `\\frac{1}{2}`, `50\\%`.

    math-verify's judgement, within five seconds on the main thread (it counts them by a signal, so on
    another thread there is no limit).
    """
    found = parsed(answer)
    if not found:
        return False
    from math_verify import verify

    return bool(verify(parsed(gold), found, timeout_seconds=_seconds()))


def parsed(answer: str) -> list[Any]:
    """What math-verify reads in the content of a box; empty if it is no mathematics."""
    from math_verify import parse
    from math_verify.errors import TimeoutException

    text = SCIENTIFIC.sub(r"\1 \\times 10^{\2}", answer.strip().rstrip("."))
    text = text.replace(r"\,", "").replace("{,}", ",")
    try:
        return parse(f"\\boxed{{{text}}}", fallback_mode="no_fallback", parsing_timeout=_seconds())
    except TimeoutException:
        return []


def _seconds() -> int:
    return SECONDS if threading.current_thread() is threading.main_thread() else 0  # 0: no limit
