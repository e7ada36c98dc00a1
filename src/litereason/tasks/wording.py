"""What prompts and completions of several tasks share: the offer of thoughts, and the boxed answer.

The answer is what the last `\\boxed{}` of a completion holds; no box is no answer (arXiv 2512.02240).
"""

import re

SILENT = (
    "You may think a step in silence: write <implicit_thought>number</implicit_thought> in its place, "
    "with a number from 1 to 5."
)
AT_ONCE = "Answer at once, without any reasoning."
BOX = re.compile(r"\\boxed\s*\{")
BRACE = re.compile(r"\\.|[{}]", re.S)  # an escaped brace is a character like any other
FONT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit)\s*\{(.*)\}", re.S)
THOUGHT = re.compile(r"<implicit_thought>\s*[0-9]+\s*</implicit_thought>")


def boxed(completion: str) -> str | None:
    """What the last closed `\\boxed{}` holds, without thoughts in it and fonts around it, or None."""
    text = THOUGHT.sub("", completion)
    for start in reversed([match.end() for match in BOX.finditer(text)]):
        depth = 1
        for brace in BRACE.finditer(text, start):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                return _without_font(text[start : brace.start()].strip())
    return None


def _without_font(text: str) -> str:
    while found := FONT.fullmatch(text):
        text = found[1].strip()
    return text
