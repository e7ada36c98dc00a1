"""Figures of a text alone and beside others: how varied, how new, how close. Imports no torch.

They say how a text is worded, not whether it is any good: judgements (`preference.py`) do that.
"""

import re
from collections.abc import Mapping, Sequence

from litereason.extras import need

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text, lower-cased, without punctuation; `don’t` is one and equals `don't`."""
    return _WORD.findall(text.lower().replace("’", "'"))


def unique_share(found: Sequence[str]) -> float | None:
    """Different words per word; None without words. Falls with length: compare equal lengths."""
    return len(set(found)) / len(found) if found else None


def unseen_trigrams(found: Sequence[str], references: Sequence[Sequence[str]]) -> float | None:
    """Share of a text's word trigrams, each as often as it occurs, that no reference holds.

    Args:
        found: the text's words.
        references: the words of each reference; trigrams do not reach from one into the next.

    Returns:
        None for a text of less than three words.
    """
    seen = {trigram for reference in references for trigram in _trigrams(reference)}
    own = _trigrams(found)
    return sum(trigram not in seen for trigram in own) / len(own) if own else None


def in_common(found: Sequence[str], reference: Sequence[str]) -> int:
    """Length of the longest common subsequence of words.

    It is rapidfuzz's, whose bit-parallel search takes milliseconds for two chapters.
    """
    return need("rapidfuzz.distance.LCSseq", "train").similarity(found, reference)


def rouge_l(found: Sequence[str], reference: Sequence[str]) -> float:
    """Rouge-L: F1 of the longest common subsequence of words, 0 to 1 (Lin 2004, section 3.1)."""
    common = in_common(found, reference)
    return 2 * common / (len(found) + len(reference)) if common else 0.0


def text_metrics(
    text: str, parts: Mapping[str, str], gold: str | None = None
) -> dict[str, float | None]:
    """All figures of a text (arXiv 2512.02240, chapter writing).

    Args:
        text: what was written.
        parts: what the writer had before it, by name: trigrams that none of them holds are unseen, and
            each has a Rouge-L of its own.
        gold: the true text, if there is one.

    Returns:
        `words`, `unique_words`, `unseen_trigrams`, `rouge_l_gold` (if there is a gold text) and
        `rouge_l_PART` for each part; None where a text is too short to have the figure.
    """
    found = words(text)
    split = {name: words(part) for name, part in parts.items()}
    references = split if gold is None else {"gold": words(gold), **split}
    return {
        "words": float(len(found)),
        "unique_words": unique_share(found),
        "unseen_trigrams": unseen_trigrams(found, list(split.values())),
    } | {f"rouge_l_{name}": rouge_l(found, reference) for name, reference in references.items()}


def _trigrams(found: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(found, found[1:], found[2:], strict=False))
