"""Length penalties against hand-computed values; faulty reward functions."""

import asyncio
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from litereason.errors import ConfigError, RewardError
from litereason.rewards import checked, length_penalty, reward_functions, task_reward
from litereason.tasks.base import scores
from litereason.tasks.stories import StoriesTask

NAN = math.nan


def test_overlong_is_linear_over_the_last_positions():
    """L_max 100, L_cache 40: nothing up to 60, half at 80, all at 100."""
    lengths = torch.tensor([10, 60, 70, 80, 100, 120])
    found = length_penalty("overlong", lengths, torch.zeros(6), 3, longest=100, span=40)
    assert found.tolist() == pytest.approx([0, 0, -0.25, -0.5, -1, -1])


def test_only_right_completions_pay_for_length_against_the_shortest_right_one():
    lengths = torch.tensor([30, 20, 5, 70, 9, 10, 11, 12])
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    found = length_penalty("correct_only", lengths, rewards, 4, longest=100, span=40)
    # first group: the shortest that earned something has 20; 10 more cost 10/40, 50 more are capped
    assert found.tolist() == pytest.approx([-0.25, 0, 0, -1, 0, 0, 0, 0])


def test_a_penalty_never_makes_a_wrong_answer_the_better_one():
    """With a weight of at most 1, right and long still earns no less than wrong and short."""
    generator = torch.manual_seed(0)
    lengths = torch.randint(1, 400, (40,), generator=generator)
    rewards = torch.randint(0, 2, (40,), generator=generator).float()
    found = rewards + length_penalty("correct_only", lengths, rewards, 8, longest=400, span=50)
    assert found[rewards > 0].min() >= 0 and bool((found[rewards == 0] == 0).all())


def test_what_cannot_be_scored_has_no_penalty():
    for kind in ("overlong", "correct_only"):
        rewards = torch.tensor([NAN, 1.0, 1.0, 0.0])
        found = length_penalty(kind, torch.tensor([1, 9, 10, 10]), rewards, 4, longest=10, span=2)
        assert math.isnan(found[0]) and not bool(found[1:].isnan().any())
    assert found.tolist()[1:] == [0, -0.5, 0], "the shortest is taken among those that count"


def test_an_unknown_penalty_is_named():
    with pytest.raises(ConfigError, match="'shorter'; expected one of none, overlong"):
        length_penalty("shorter", torch.ones(2), torch.ones(2), 2, 10, 5)


def examples():
    return StoriesTask().examples("train", 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda **_: 1 / 0, "raised ZeroDivisionError on a batch of examples .*train-0-0"),
        (lambda **_: [1.0], "returned 1 values for 2 completions .*train-0-2"),
        (lambda **_: [1.0, NAN], "returned nan for example 'train-0-0'"),
        (lambda **_: ["good", 1.0], "returned 'good' for example 'train-0-2'"),
        (lambda **_: 3, "raised TypeError"),
        (lambda **_: {"a": 1.0, "b": 0.0}, "it returned a dict; expected a list"),
    ],
)
def test_a_faulty_function_is_an_error_that_says_where(function, message):
    reward = checked(function, examples())
    with pytest.raises(RewardError, match=message):
        reward(example_index=[2, 0], completion_ids=[[1], [2]], prompts=[], completions=["a", "b"])


def test_a_function_gets_its_examples_and_may_decline():
    def answers(examples, completions, **kwargs):
        return [
            None if c == "?" else e.answer == c for e, c in zip(examples, completions, strict=True)
        ]

    made = examples()
    reward = checked(answers, made)
    right = made[1].answer
    assert reward(example_index=[1, 1, 0], completions=[right, "?", "x"]) == [1.0, None, 0.0]
    assert reward.__name__ == "answers"


def test_coroutines_tensors_and_arrays_are_taken():
    async def later(completions, **kwargs):
        return torch.tensor([float(len(c)) for c in completions])

    for function in (later, lambda completions, **_: np.array([len(c) for c in completions])):
        reward = checked(function, examples())
        assert reward(example_index=[0, 1], completions=["abc", ""]) == [3.0, 0.0]


def test_a_coroutine_is_taken_inside_a_running_loop():
    """As in a notebook; and clients that a reward keeps see one loop."""
    seen = []

    async def later(completions, **kwargs):
        seen.append(asyncio.get_running_loop())
        return [1.0 for _ in completions]

    async def main():
        reward = checked(later, examples())
        return [reward(example_index=[0], completions=["a"]) for _ in range(2)]

    assert asyncio.run(main()) == [[1.0], [1.0]]
    assert seen[0] is seen[1]


def test_weights_are_as_many_as_functions():
    args = SimpleNamespace(length_penalty="correct_only", reward_weights=[1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match=r"for the rewards \['reward', 'more'\]"):
        reward_functions(StoriesTask(), examples(), str, args, [named("more")])
    args = SimpleNamespace(
        length_penalty="correct_only", reward_weights=[1.0, 2.0], length_penalty_weight=0.5
    )
    functions = reward_functions(StoriesTask(), examples(), str, args, [named("more")])
    assert len(functions) == 3 and args.reward_weights == [1.0, 2.0, 0.5]


def named(name):
    def function(completions, **kwargs):
        return [0.0] * len(completions)

    function.__name__ = name
    return function


def test_a_task_may_score_a_batch_at_once():
    class Batch(StoriesTask):
        name = "batch"

        def rewards(self, examples, completions):
            return [float(len(c)) for c in completions][: 1 if "x" in completions else None]

    reward = task_reward(Batch(), examples(), str)
    assert reward(completion_ids=[1, 23], example_index=[0, 1]) == [1.0, 2.0]
    with pytest.raises(RewardError, match=r"'batch' are 1 for 2 completions .*'train-0-0'"):
        scores(Batch(), examples()[:2], ["x", "y"])


def test_the_task_is_told_of_the_example_that_fails():
    class Broken(StoriesTask):
        name = "broken"

        def reward(self, example, completion):
            raise KeyError(completion)

    reward = task_reward(Broken(), examples(), lambda ids: "text")
    with pytest.raises(RewardError, match="'broken' raised KeyError on example 'train-0-1'"):
        reward(completion_ids=[[1]], example_index=[1])
