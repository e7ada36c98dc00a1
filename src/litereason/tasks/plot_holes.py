"""Plot-hole detection: does a story contradict itself, and where? Shared by all story sources.

The answer is the last `\\boxed{}` outside quoted lines. A completion may quote the sentences that make
the error in `<error_lines>` and those that they contradict in `<contradicted_lines>`; CEEval (Flawed
Fictions, arXiv 2504.11900) compares them with the gold ones. A quote counts for
every sentence of the story that holds it, both lower-cased and without punctuation.
"""

import abc
import re
from collections.abc import Collection, Iterable, Sequence

from litereason.tasks.base import Example, Task, check_mode
from litereason.tasks.wording import SILENT, THOUGHT, boxed

__all__ = ["SILENT", "PlotHoleTask", "boxed", "ceeval", "quoted_lines", "verdict"]

QUOTED = ("error_lines", "contradicted_lines")
# Innermost blocks only, so that a block that was opened twice holds what follows the second opening.
BLOCK = {tag: re.compile(rf"<{tag}>((?:(?!</?{tag}>).)*)</{tag}>", re.S) for tag in QUOTED}
MARK = re.compile(rf"</?(?:{'|'.join(QUOTED)})>")
BULLET = re.compile(r"^\s*(?:[-*•>]+\s*)+")


class PlotHoleTask(Task, abc.ABC):
    """Yes/No stories. A subclass says where stories come from and how to ask.

    `Example.fields` hold the gold sentences, `error_lines` and `contradicted_lines`: lists of text,
    empty for a story without an error, None where they are not known.
    """

    #: mode -> what follows the story in the prompt, on a line of its own
    instructions: dict[str, str]

    @abc.abstractmethod
    def sentences(self, example: Example) -> list[str]:
        """The sentences of the story."""

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return f"{example.text}\n{self.instructions[check_mode(mode)]}"

    def reward(self, example: Example, completion: str) -> float | None:
        return float(verdict(completion) == example.answer)

    def quotes(self, example: Example, completion: str, tag: str) -> list[str]:
        """The sentences, or parts of them, that a completion quotes in `<tag>`."""
        return quoted_lines(completion, tag)

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        told = self.sentences(example)
        gold, predicted = [], []
        for tag in QUOTED:
            lines = example.fields.get(tag)
            gold.append(None if lines is None else holding(told, lines))
            quotes = self.quotes(example, completion, tag)
            predicted.append(holding(told, quotes) | strays(told, quotes))
        return ceeval(example.answer, verdict(completion), gold, predicted)


def verdict(completion: str) -> str | None:
    """`Yes`, `No`, or None: the last box outside quoted lines, whatever its case and punctuation."""
    for block in BLOCK.values():
        completion = block.sub(" ", completion)
    answer = re.sub(r"^\W+|\W+$", "", boxed(completion) or "").capitalize()
    return answer if answer in ("Yes", "No") else None


def quoted_lines(completion: str, tag: str) -> list[str]:
    """The lines of all closed `<tag>` blocks outside thoughts, without bullets and marks of blocks."""
    answer = completion.rpartition("</think>")[2].partition("<think>")[0]
    text = "\n".join(BLOCK[tag].findall(THOUGHT.sub("", answer)))
    lines = [BULLET.sub("", line).strip() for line in MARK.sub("\n", text).split("\n")]
    return [line for line in lines if line]


def plain(text: str) -> str:
    """Lower-cased words, one space between them, no punctuation: what quotes are compared by."""
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())


def holding(sentences: Iterable[str], lines: Iterable[str]) -> set[str]:
    """The sentences of a story (as `plain` text) that hold one of `lines`."""
    wanted = [line for line in map(plain, lines) if line]
    return {s for s in map(plain, sentences) if any(line in s for line in wanted)}


def strays(sentences: Iterable[str], lines: Iterable[str]) -> set[str]:
    """Those of `lines` (as `plain` text) that no sentence of the story holds: made up, or run together."""
    told = list(map(plain, sentences))
    return {line for line in map(plain, lines) if line and not any(line in s for s in told)}


def ceeval(
    label: str,
    answer: str | None,
    gold: Sequence[Collection[str] | None],
    predicted: Sequence[Collection[str]],
) -> dict[str, float | None]:
    """CEEval-Full, CEEval-Pos and Strict of one completion (arXiv 2504.11900).

    Args:
        label: the right answer, `Yes` or `No`.
        answer: the completion's.
        gold: the story's sentences with the error, and those that it contradicts; None or empty for a
            `Yes` where they are not known.
        predicted: the same as the completion says, with what it quotes and the story does not hold.

    Returns:
        `ceeval_full`: 0 if the answer is wrong, 1 for a right No; for a right Yes, 1 only if both
        predicted sets share a sentence with their gold ones. `ceeval_pos`: the same for stories with
        an error, None for others. `strict`: as `ceeval_full`, but both predicted sets must be
        non-empty subsets. All None where gold sentences are not known.
    """
    known = all(one is not None for one in gold) and (label == "No" or all(gold))
    if not known:
        return {"ceeval_full": None, "ceeval_pos": None, "strict": None}
    pairs = [(set(one or ()), set(told)) for one, told in zip(gold, predicted, strict=True)]
    right = answer == label
    full = right and (label == "No" or all(one & told for one, told in pairs))
    strict = right and (label == "No" or all(told and told <= one for one, told in pairs))
    return {
        "ceeval_full": float(full),
        "ceeval_pos": float(full) if label == "Yes" else None,
        "strict": float(strict),
    }
