"""What a completion earns in RL: the task's reward, rewards of your own, and length shaping.

Reward functions have TRL's signature. An error names the task or function and the example. A completion
that cannot be scored is `None`, never 0: it gets no advantage and does not move its group's mean.
"""

import asyncio
import functools
import inspect
import math
import numbers
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from litereason.errors import ConfigError, RewardError
from litereason.tasks.base import Example, Task, scores

LENGTH_PENALTIES = ("none", "overlong", "correct_only")


def task_reward(
    task: Task, examples: Sequence[Example], text_of: Callable[[Sequence[int]], str]
) -> Callable[..., list[float | None]]:
    """The task's reward in TRL's signature; `text_of` decodes a completion's ids."""

    def reward(
        completion_ids: list[list[int]], example_index: list[int], **kwargs: Any
    ) -> list[float | None]:
        chosen = [examples[index] for index in example_index]
        return scores(task, chosen, [text_of(ids) for ids in completion_ids])

    return reward


def checked(
    function: Callable[..., Any], examples: Sequence[Example]
) -> Callable[..., list[float | None]]:
    """A reward function of the user's (TRL's signature) whose faults are errors that say where.

    It is called with `prompts`, `completions`, `completion_ids`, and with `examples`, a list of
    `Example`, one a completion. It may be a coroutine function, and return tensors or arrays.
    """
    name = getattr(function, "__name__", type(function).__name__)

    def reward(example_index: list[int], **kwargs: Any) -> list[float | None]:
        chosen = [examples[index] for index in example_index]
        try:
            given = function(examples=chosen, **kwargs)
            if inspect.isawaitable(given):  # TRL takes coroutines as well
                given = asyncio.run_coroutine_threadsafe(_awaited(given), _loop()).result()
            if isinstance(given, (dict, str)):
                raise TypeError(f"it returned a {type(given).__name__}; expected a list")
            values = [value.item() if hasattr(value, "item") else value for value in given]
        except Exception as error:
            ids = sorted({example.id for example in chosen})
            raise RewardError(
                f"the reward function {name!r} raised {type(error).__name__} on a batch of examples "
                f"{ids[:4]}{'...' if len(ids) > 4 else ''}: {error}"
            ) from error
        if len(values) != len(chosen):
            raise RewardError(
                f"the reward function {name!r} returned {len(values)} values for {len(chosen)} "
                f"completions (the first of example {chosen[0].id!r}); expected one each"
            )
        for value, example in zip(values, chosen, strict=True):
            bad = value is not None and (
                not isinstance(value, numbers.Real) or not math.isfinite(value)
            )
            if bad:
                raise RewardError(
                    f"the reward function {name!r} returned {value!r} for example {example.id!r}; "
                    "expected a number, or None for a completion that cannot be scored"
                )
        return [None if value is None else float(value) for value in values]

    reward.__name__ = name
    return reward


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop in a thread of its own: callers may have one that runs, and clients outlive a batch."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def length(completions: list[Any], **kwargs: Any) -> list[float]:
    """Holds the place of the length penalty, which needs whole groups (`length_penalty`)."""
    return [0.0] * len(completions)


def length_penalty(
    kind: str, lengths: Tensor, rewards: Tensor, group: int, longest: int, span: int
) -> Tensor:
    """What length costs each completion, `(batch,)`, from 0 to -1; NaN where `rewards` is NaN.

    Args:
        kind: `overlong`: DAPO's soft overlong punishment (arXiv 2503.14476): 0 up to `longest - span`,
            then linear down to -1 at `longest`. `correct_only`: among the completions of a group that
            earned something, linear in how much longer each is than the shortest of them, -1 at `span`
            more; the others cost nothing, so that no penalty can make a wrong answer better than it is.
        lengths: positions of each completion, latent steps included: each costs a forward pass.
        rewards: the task's.
        group: completions a prompt, which stand together.
        longest: bound on a completion's positions (L_max).
        span: positions over which the penalty grows from 0 to -1 (L_cache).
    """
    lengths = lengths.to(rewards)
    if kind == "overlong":
        found = -((lengths - (longest - span)) / span).clamp(0, 1)
    elif kind == "correct_only":
        right = rewards > 0
        shortest = lengths.masked_fill(~right, torch.inf).view(-1, group).amin(1)
        extra = lengths - shortest.repeat_interleave(group)
        found = torch.where(right, -(extra / span).clamp(0, 1), 0.0)
    else:
        raise ConfigError(
            f"length_penalty is {kind!r}; expected one of {', '.join(LENGTH_PENALTIES)}"
        )
    return found.masked_fill(rewards.isnan(), torch.nan)


def reward_functions(
    task: Task,
    examples: Sequence[Example],
    text_of: Callable[[Sequence[int]], str],
    args: Any,
    more: Sequence[Callable[..., Any]],
) -> list[Any]:
    """What RL is rewarded by: the task, then `more` functions, then the place of the length penalty.

    Args:
        args: a `LatentGRPOConfig`; the weight of a length penalty is added to its `reward_weights`.

    Raises:
        ConfigError: two functions have one name, or weights that are not as many as functions.
    """
    functions: list[Any] = [task_reward(task, examples, text_of)]
    functions += [checked(function, examples) for function in more]
    names = [function.__name__ for function in functions]
    if len({*names, "length"}) <= len(names):
        raise ConfigError(
            f"reward functions are called {names[1:]}; expected names of their own, other than "
            "'reward' and 'length'"
        )
    if args.reward_weights is not None and len(args.reward_weights) != len(functions):
        raise ConfigError(
            f"reward_weights are {args.reward_weights} for the rewards {names}; expected one each, as "
            "--reward_weights '[1.0, 0.5]'"
        )
    if args.length_penalty != "none":
        functions.append(length)
        weights = args.reward_weights or [1.0] * (len(functions) - 1)
        args.reward_weights = [*weights, args.length_penalty_weight]
    return functions
