"""What a task is: examples, a prompt in three modes, and a reward.

A task knows nothing of models or tokenizers. New tasks: one file, one line in `TASKS`, or a class of
your own given as `path/to/file.py:ClassName`.
"""

import abc
import dataclasses
from typing import Any

from litereason.errors import ConfigError, RewardError

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
    if isinstance(value, str) or value != value:
        raise RewardError(
            f"the reward of task {task.name!r} returned {value!r} for example {example.id!r}; "
            "expected a number, or None for a completion that cannot be scored"
        )
    return float(value)


def preflight(task: Task, examples: list[Example]) -> None:
    """Try the reward on one empty completion, before anything expensive.

    Raises:
        RewardError: it raised, or returned no number.
    """
    if score(task, examples[0], "") is None:
        raise RewardError(
            f"the reward of task {task.name!r} returned None for an empty completion of example "
            f"{examples[0].id!r}; expected a number (an empty completion is wrong, not unscorable)"
        )
