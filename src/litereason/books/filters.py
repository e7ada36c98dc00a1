"""Which chapters make a next-chapter pair (arXiv 2503.22828), and why the others do not."""

from collections.abc import Sequence

from litereason.books.novels import Chapter

FEWEST_WORDS, MOST_WORDS = 200, 5000  # of a chapter, both excluded
MOST_PROMPT_WORDS = 10_000  # of all that a pair's prompt holds, excluded
FIRST = 2  # the first chapter has none before it
LAST_LEFT_OUT = 2  # endings, and what publishers put after them


def why_not(chapters: Sequence[Chapter], at: int) -> str | None:
    """Why chapter number `at` (from 0) makes no pair, or None if it does."""
    words = chapters[at].words
    if at + 1 < FIRST:
        return "first chapter"
    if at >= len(chapters) - LAST_LEFT_OUT:
        return f"one of the last {LAST_LEFT_OUT}"
    if words <= FEWEST_WORDS:
        return f"not above {FEWEST_WORDS} words"
    if words >= MOST_WORDS:
        return f"not below {MOST_WORDS} words"
    if chapters[at - 1].words >= MOST_WORDS:
        return f"previous chapter not below {MOST_WORDS} words"
    return None


def prompt_too_long(words: int) -> str | None:
    """Why a pair with a prompt of so many words is left out, or None."""
    return f"prompt not below {MOST_PROMPT_WORDS} words" if words >= MOST_PROMPT_WORDS else None
