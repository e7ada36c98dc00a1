"""Step-by-step traces for generated stories, in several styles, right or with honest slips.

`delta` says, sentence by sentence, what changes and checks what can be checked, and stops at the first
error. `short` keeps the lines that matter, `brief` the checks only. `verbose` writes as large models do:
it reads sentences again, restates what is known, hedges and doubts, so that there is something to
skip. `hunch` guesses. Every line is one sentence.
"""

import random

from litereason.errors import ConfigError
from litereason.stories.world import Story

STYLES = ["delta", "short", "brief", "verbose", "hunch"]
HUNCH_ACCURACY = 0.65
HEDGES = ["Nothing seems odd so far.", "Let me be careful here.", "That should be fine, I think."]
DOUBT = "Wait, let me check that again."
GUESS = {True: "It feels odd.", False: "It feels fine."}


def trace(
    rng: random.Random, story: Story, style: str = "delta", slip: float = 0.0
) -> tuple[list[str], str]:
    """Sentences of a trace and its answer.

    Args:
        rng: the source of all choices.
        story: the story to think about.
        style: one of `STYLES`.
        slip: chance of a mistake at each state change or check, believed from there on.

    Returns:
        (lines, "Yes" or "No"). With `slip=0` the answer is right, but for `hunch`.

    Raises:
        ConfigError: no such style.
    """
    if style not in STYLES:
        raise ConfigError(f"unknown trace style {style!r}; expected one of {STYLES}")
    if style == "hunch":
        right = rng.random() < HUNCH_ACCURACY
        says = (story.label == "Yes") == right
        return [GUESS[says]], "Yes" if says else "No"
    lines: list[str] = []
    answer = "No"
    for number, (kind, line, wrong) in enumerate(_check_all(rng, story, slip), 1):
        told = f"{number}. {line}"
        if style == "verbose":
            lines += _talk(rng, story.sentences[number - 1], number, told, wrong)
        elif style == "delta" or wrong or kind in _KEPT[style]:
            lines.append(told)
        if wrong:
            answer = "Yes"
            if not story.every:
                break
    return lines or [GUESS[False]], answer


def as_text(lines: list[str], answer: str) -> str:
    """A completion: the lines, then the boxed answer on a line of its own."""
    return "".join(f"\n{line}" for line in [*lines, f"\\boxed{{{answer}}}"])


_KEPT = {"short": {"use", "trade", "die"}, "brief": {"use"}}


def _check_all(rng: random.Random, story: Story, slip: float) -> "list[tuple[str, str, bool]]":
    """(kind, what to say of it, whether it cannot be) for each sentence of the story."""
    holds: dict[str, str] = {}
    dead: str | None = None
    checked = []
    for event in story.events:
        who, what = event.who, event.what
        slips = rng.random() < slip
        wrong = False
        if who == dead and event.kind != "bury":
            line, wrong = f"{who} dead wrong", True
        elif event.kind == "own":
            holds[who] = what
            line = f"{who} {what}"
        elif event.kind == "go":
            line = "skip"
        elif event.kind == "trade":
            before = f"{who} {holds[who]} {what} {holds[what]}"
            if not slips:
                holds[who], holds[what] = holds[what], holds[who]
            line = f"{before} so {who} {holds[who]} {what} {holds[what]}"
        elif event.kind == "die":
            dead = who
            line = f"{who} dead"
        elif event.kind == "bury":
            line = f"{what} dead"
        else:
            wrong = (holds[who] == what) == slips
            line = f"{who} {holds[who]} {what} {'wrong' if wrong else 'ok'}"
        checked.append((event.kind, line, wrong))
    return checked


def _talk(rng: random.Random, sentence: str, number: int, told: str, wrong: bool) -> list[str]:
    """The verbose way to say `told`: often after reading again, often with a hedge or a doubt."""
    said = []
    if rng.random() < 0.6:
        said.append(f"{number}. reads: {sentence}")
    said.append(told)
    if not wrong and rng.random() < 0.3:
        said.append(rng.choice(HEDGES))
    elif rng.random() < 0.15:
        said += [DOUBT, told]
    return said
