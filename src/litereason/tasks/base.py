"""What a task is: examples, a prompt in three modes, and a reward.

A task knows nothing of the policy or its tokenizer; it may hold a judge of its own, as `next_chapter` does.
New tasks: one file, one line in `TASKS`, or a class of your own given as `path/to/file.py:ClassName`.
"""

import abc
import collections
import dataclasses
import json
import math
import numbers
from collections.abc import Iterable, Sequence
from pathlib import Path
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

    def as_text(self) -> str:
        """What a reward may look at; of objects that are no plain data, the type only."""
        told = [self.id, self.answer, self.fields]
        return json.dumps(told, default=lambda value: type(value).__name__)


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

    def rewards(
        self, examples: Sequence[Example], completions: Sequence[str]
    ) -> list[float | None]:
        """The rewards of many completions, one example each; for tasks that score a batch at once."""
        return [self.reward(e, text) for e, text in zip(examples, completions, strict=True)]

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        """More figures of a completion for evaluation, by name; `None` where one does not apply."""
        return {}

    def one_file(self) -> Path | None:
        """The file that every split is read from, all of it for each, if there is one."""
        return None

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
    """The task's reward as a float, or None (`scores` of one completion)."""
    return scores(task, [example], [completion])[0]


def scores(
    task: Task, examples: Sequence[Example], completions: Sequence[str]
) -> list[float | None]:
    """The task's rewards as floats, or None; one example a completion.

    Raises:
        RewardError: the reward raised, or returned something that is no number, or too few or many.
    """
    pairs = list(zip(examples, completions, strict=True))
    if type(task).rewards is Task.rewards:  # one by one, so that an error names its example
        values = [_called(task, [example], task.reward, example, text) for example, text in pairs]
    else:
        texts = list(completions)
        values = _called(task, examples, task.rewards, list(examples), texts)
        if not isinstance(values, Iterable):
            raise RewardError(
                f"the rewards of task {task.name!r} are {values!r}; expected a list, one a completion"
            )
        values = list(values)
    if len(values) != len(pairs):
        raise RewardError(
            f"the rewards of task {task.name!r} are {len(values)} for {len(pairs)} completions (the "
            f"first of example {examples[0].id!r}); expected one each"
        )
    return [
        _number(value, f"the reward of task {task.name!r}", example)
        for value, (example, _) in zip(values, pairs, strict=True)
    ]


def checked_metrics(task: Task, example: Example, completion: str) -> dict[str, float | None]:
    """The task's metrics of a completion, checked as rewards are."""
    found = _called(task, [example], task.metrics, example, completion)
    return {
        name: _number(value, f"the metric {name!r} of task {task.name!r}", example)
        for name, value in found.items()
    }


def _called(task: Task, examples: Sequence[Example], method: Any, *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except Exception as error:
        names = sorted({example.id for example in examples})
        which = f"example {names[0]!r}" if len(names) == 1 else f"a batch of examples {names[:4]}"
        raise RewardError(
            f"the {method.__name__} of task {task.name!r} raised {type(error).__name__} on {which}: "
            f"{error}"
        ) from error


def _number(value: Any, what: str, example: Example) -> float | None:
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise RewardError(
            f"{what} is {value!r} for example {example.id!r}; expected a number, or None for a "
            "completion that cannot be scored"
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
