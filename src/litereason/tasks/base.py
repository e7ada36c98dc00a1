"""What a task is: examples, a prompt in three modes, and a reward.

A task knows nothing of models or tokenizers. New tasks: one file, one line in `TASKS`, or a class of
your own given as `path/to/file.py:ClassName`.
"""

import abc
import collections
import dataclasses
import math
import numbers
from typing import Any

from litereason.errors import ConfigError, DataError, LiteReasonError, RewardError

MODES = ("plain", "latent", "direct")


@dataclasses.dataclass(frozen=True)
class Example:
    """One item of a task.

    Attributes:
        id: unique in its split.
        text: what the prompt is about.
        answer: the right answer, as the task writes it.
        fields: anything else that rewards or reports use.
    """

    id: str
    text: str
    answer: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)


class Task(abc.ABC):
    """Examples, prompts and rewards. Options come as keyword arguments of the constructor."""

    name: str

    @abc.abstractmethod
    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        """The examples of a split, always in the same order.

        Raises:
            DataError: the split does not exist or cannot be read.
        """

    @abc.abstractmethod
    def prompt(self, example: Example, mode: str = "plain") -> str:
        """The user's message: reason in words (`plain`), thoughts allowed (`latent`), or `direct`."""

    @abc.abstractmethod
    def reward(self, example: Example, completion: str) -> float | None:
        """How good a completion's text is; `None` if it cannot be scored. Above 0 counts as right."""

    def demonstration(self, example: Example) -> str | None:
        """A completion known to be right, where the task has one (not used by RL)."""
        return None


def check_mode(mode: str) -> str:
    """Return `mode` if prompts have it.

    Raises:
        ConfigError: they do not.
    """
    if mode not in MODES:
        raise ConfigError(f"unknown prompt mode {mode!r}; expected one of {list(MODES)}")
    return mode


def score(task: Task, example: Example, completion: str) -> float | None:
    """The task's reward as a float, or None.

    Raises:
        RewardError: the reward function raised, or returned something that is no number.
    """
    try:
        value = task.reward(example, completion)
    except Exception as error:
        raise RewardError(
            f"the reward of task {task.name!r} raised {type(error).__name__} on example "
            f"{example.id!r}: {error}"
        ) from error
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise RewardError(
            f"the reward of task {task.name!r} returned {value!r} for example {example.id!r}; "
            "expected a number, or None for a completion that cannot be scored"
        )
    return float(value)


def preflight(task: Task, split: str, limit: int | None, mode: str) -> list[Example]:
    """The examples of a split, after a look at all that can be wrong with them.

    Raises:
        DataError: `examples` raised or gave something else than examples with ids of their own and
            prompts of text.
        RewardError: the reward of an empty completion raised, or is no number.
    """
    try:
        examples = task.examples(split, limit)
    except LiteReasonError:
        raise
    except Exception as error:
        raise DataError(
            f"task {task.name!r} raised {type(error).__name__} on examples({split!r}): {error}"
        ) from error
    if not examples or not all(isinstance(example, Example) for example in examples):
        got = f"a {type(examples[0]).__name__}" if examples else "none"
        raise DataError(f"task {task.name!r}: examples({split!r}) must be Examples, got {got}")
    ids = collections.Counter(example.id for example in examples)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise DataError(
            f"task {task.name!r}: {len(twice)} ids stand twice in {split!r}, e.g. {twice[0]!r}"
        )
    prompt = task.prompt(examples[0], mode)
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(
            f"task {task.name!r}: the prompt of {examples[0].id!r} is {prompt!r}, not text"
        )
    if score(task, examples[0], "") is None:
        raise RewardError(
            f"the reward of task {task.name!r} returned None for an empty completion of example "
            f"{examples[0].id!r}; expected a number (an empty completion is wrong, not unscorable)"
        )
    return examples
