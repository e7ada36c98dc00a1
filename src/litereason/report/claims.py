"""What a claim about arms is made of: verdicts, and the sentences that compare two arms.

Whether arms differ is read off the paired comparison alone: when its interval holds 0 or its corrected p
is not below .05, the sentence says that no difference was shown, which is not the same as that there is
none. No statistics are computed here.
"""

import dataclasses

from litereason.report import numbers
from litereason.report.run import Arm, Comparison, Run

HELD, PARTLY, NOT_SHOWN, FAILED = "Held", "Partly", "Not shown", "Did not hold"
UNTESTED, NOTE = "Not tested", "Note"
MARKS = {HELD: "✓ ", FAILED: "✗ ", PARTLY: "◐ ", NOT_SHOWN: "○ "}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One claim, the verdict on it, and the sentences that give the figures: a text, and points.

    Of a claim on one of our arms `arm` is its name, and `short` the claim in a few words.
    """

    verdict: str
    claim: str
    text: str
    points: tuple[str, ...] = ()
    arm: str = ""
    short: str = ""

    @property
    def whole(self) -> str:
        """The sentences without a list."""
        return " ".join((self.text, *self.points))


def score(run: Run, arm: Arm) -> str:
    """What the arm scored, with its interval."""
    return numbers.score(run.score(arm), run.metric)


def compare(run: Run, a: Arm, b: Arm) -> tuple[Comparison | None, str]:
    """The paired comparison of the score and the sentence that tells it."""
    scores = f"{a.title} reached {score(run, a)} and {b.title} {score(run, b)}"
    paired = run.difference(a.name, b.name, run.metric)
    if paired is None:
        return None, (
            f"{scores} ({numbers.judged(a, b)}). The run holds no paired comparison of "
            "the two, so nothing is claimed."
        )
    if not paired.shown:
        told = numbers.difference(paired)
        return paired, f"No difference was shown. {scores}; {a.title} minus {b.title}: {told}."
    word, size = ("higher", paired) if paired.difference > 0 else ("lower", paired.flipped())
    return paired, f"{scores}: {a.title} is {word} by {numbers.difference(size, signed=False)}."


def superiority(paired: Comparison | None) -> str:
    """The verdict on "a is better than b"."""
    if paired is None:
        return UNTESTED
    if not paired.shown:
        return NOT_SHOWN
    return HELD if paired.difference > 0 else FAILED


def ahead(score: Comparison, length: Comparison | None, margin: float) -> str:
    """The verdict on "a is ahead of b": better by more than `margin`, or no worse than that and shorter.

    Whole intervals decide, uncorrected: who is ahead of all is ahead of each. An arm that gives up more
    of the score than `margin` is no rival, however short. Without a length, the score alone decides.
    """
    if length is None:
        return superiority(score)

    def wins(score: Comparison, length: Comparison) -> bool:
        return score.low > margin or (score.low >= -margin and length.high < 0)

    if wins(score, length):
        return HELD
    return FAILED if wins(score.flipped(), length.flipped()) else NOT_SHOWN


def together(verdicts: list[str]) -> str:
    """The verdict on "a is better than each of them"."""
    if FAILED in verdicts:
        return FAILED
    if HELD not in verdicts:
        return NOT_SHOWN
    return HELD if set(verdicts) == {HELD} else PARTLY
