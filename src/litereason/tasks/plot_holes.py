"""Plot-hole detection: does a story contradict itself? Shared by all story sources.

The answer is the last `\\boxed{}` of a completion; anything else in it is ignored, and no box is wrong
(METHOD section 4).
"""

import abc
import re

from litereason.tasks.base import Example, Task, check_mode

BOX = re.compile(r"\\boxed\{\s*([^{}]*?)\s*\}")
SILENT = (
    "You may think a step in silence: write <implicit_thought>number</implicit_thought> in its place, "
    "with a number from 1 to 5."
)


def boxed(completion: str) -> str | None:
    """What the last `\\boxed{}` holds, or None."""
    found = BOX.findall(completion)
    return found[-1] if found else None


class PlotHoleTask(Task, abc.ABC):
    """Yes/No stories. A subclass says where stories come from and how to ask."""

    #: mode -> what follows the story in the prompt, on a line of its own
    instructions: dict[str, str]

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return f"{example.text}\n{self.instructions[check_mode(mode)]}"

    def reward(self, example: Example, completion: str) -> float | None:
        answer = boxed(completion)
        return float(answer is not None and answer.lower() == example.answer.lower())
