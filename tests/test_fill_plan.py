"""Fill plans: what every pass takes, and that no simpler plan is much cheaper."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litereason.fill_plan import PASS_COST, PASS_COST_ELSEWHERE, Counts, cut, plan

SLACK = 1.1 + 1e-9  # smaller groups are taken if they cost at most a tenth more

row = st.lists(st.one_of(st.integers(1, 6), st.integers(1, 300)), max_size=6)
batches = st.lists(row, min_size=1, max_size=7)
paddings = st.sampled_from([0.0, 1.0, 7.0, 24.0, 400.0, math.inf])
devices = st.sampled_from(["cpu", "cuda"])


def price_of(device: str) -> int:
    return PASS_COST.get(device, PASS_COST_ELSEWHERE)


def check(rows: list[list[int]], passes: Counts) -> None:
    """Passes take every row's positions in order; none crosses the start of a stretch."""
    for k, stretches in enumerate(rows):
        taken = [counts[k] for counts in passes]
        assert min(taken, default=0) >= 0 and sum(taken) == sum(stretches)
        ends = set(itertools.accumulate(taken))
        assert ends >= set(itertools.accumulate(stretches))
    assert all(len(counts) == len(rows) and max(counts) > 0 for counts in passes)


def waste(rows: list[list[int]], passes: Counts) -> list[int]:
    """Padding of every pass between the positions of rows that go on."""
    left, found = [sum(stretches) for stretches in rows], []
    for counts in passes:
        found.append(sum(max(counts) - n for n, more in zip(counts, left, strict=True) if more))
        left = [more - n for more, n in zip(left, counts, strict=True)]
    return found


def cost_of(passes: Counts, price: int) -> int:
    return sum(price + len(counts) * max(counts) for counts in passes)


def lock_step(rows: list[list[int]]) -> Counts:
    """Stretch by stretch."""
    return [list(counts) for counts in itertools.zip_longest(*rows, fillvalue=0)]


def without_padding(rows: list[list[int]]) -> Counts:
    """A pass ends where some row's stretch ends that began the last one."""
    left, passes = [list(stretches) for stretches in rows], []
    while any(left):
        least = min(stretches[0] for stretches in left if stretches)
        passes.append([least if stretches else 0 for stretches in left])
        for stretches in filter(None, left):
            stretches[0] -= least
            if stretches[0] == 0:
                del stretches[0]
    return passes


def parts(rows: list[list[int]], passes: Counts, apart: bool) -> tuple[Counts, Counts]:
    """Passes over first stretches, and the others."""
    if not apart:
        return [], passes
    left, count = [sum(stretches[:1]) for stretches in rows], 0
    while any(left):
        left = [more - n for more, n in zip(left, passes[count], strict=True)]
        count += 1
    assert all(more == 0 for more in left), "a pass goes on behind the prefix"
    return passes[:count], passes[count:]


def estimate(rows: list[list[int]], passes: Counts, price: int, apart: bool) -> float:
    prefix, rest = parts(rows, passes, apart)
    return cost_of(prefix, price) / 2 + cost_of(rest, price)


def simple(rows: list[list[int]], how, apart: bool) -> Counts:
    """All passes of one of the simple ways."""
    if not apart:
        return how(rows)
    return how([stretches[:1] for stretches in rows]) + how([stretches[1:] for stretches in rows])


@pytest.mark.parametrize(
    ("rows", "padding", "passes"),
    [
        ([[3]], 0, [[3]]),
        ([[2, 1], [3]], 0, [[2, 2], [1, 1]]),
        ([[2, 1], [3]], 1, [[2, 3], [1, 0]]),
        ([[2, 1], [9]], 6, [[2, 2], [1, 7]]),
        ([[2, 1], [9]], 5, [[2, 2], [1, 1], [0, 6]]),
        ([[2, 1], [9]], 7, [[2, 9], [1, 0]]),
        ([[1, 1, 1], [5, 1], []], 3, [[1, 1, 0], [1, 4, 0], [1, 1, 0]]),
        ([[1, 1, 1], [5, 1], []], math.inf, [[1, 5, 0], [1, 1, 0], [1, 0, 0]]),
        ([[1], [2], [3]], 2, [[1, 2, 2], [0, 0, 1]]),
        ([[], []], 0, []),
    ],
)
def test_cut_by_hand(rows, padding, passes):
    assert cut(rows, padding) == passes


@given(batches, paddings)
def test_cut_takes_everything_within_its_bound(rows, padding):
    passes = cut(rows, padding)
    check(rows, passes)
    assert all(n <= padding for n in waste(rows, passes))
    left = [list(stretches) for stretches in rows]
    for counts in passes:  # none could have been longer
        ahead = [stretches[0] for stretches in left if stretches]
        longer = [n for n in ahead if n > max(counts)]
        assert all(sum(max(0, n - k) for k in ahead) > padding for n in longer)
        for stretches, n in zip(left, counts, strict=True):
            if stretches:
                stretches[0] -= n
                if stretches[0] == 0:
                    del stretches[0]


@given(batches)
def test_the_ends_of_the_bounds_are_the_simple_ways(rows):
    assert cut(rows, math.inf) == lock_step(rows)
    assert cut(rows, 0) == without_padding(rows)


@given(batches, devices, st.booleans(), st.booleans())
@settings(max_examples=200)
def test_plan_runs_every_row_once(rows, device, aligned, apart):
    groups = plan(rows, device, aligned, apart)
    assert sorted(k for group in groups for k in group.rows) == list(range(len(rows)))
    for group in groups:
        chosen = [rows[k] for k in group.rows]
        assert chosen
        check(chosen, group.passes)
        prefix, rest = parts(chosen, group.passes, apart and not aligned)
        check([stretches[:1] for stretches in chosen] if prefix else [], prefix)
        if aligned:
            assert sum(waste(chosen, group.passes)) == 0
        assert prefix + rest == group.passes


@given(batches, devices, st.booleans())
@settings(max_examples=200)
def test_no_simple_plan_is_much_cheaper(rows, device, apart):
    price, groups = price_of(device), plan(rows, device, prefix_apart=apart)
    chosen = sum(
        estimate([rows[k] for k in group.rows], group.passes, price, apart) for group in groups
    )
    for how in (lock_step, without_padding):
        assert chosen <= SLACK * estimate(rows, simple(rows, how, apart), price, apart)
    each = [[stretches] for stretches in rows]
    alone = sum(estimate(r, simple(r, lock_step, apart), price, apart) for r in each)
    assert chosen <= SLACK * alone
    if alone <= chosen:
        assert all(len(group.rows) == 1 for group in groups)


@given(batches, devices, st.booleans())
def test_an_aligned_plan_costs_at_most_its_simple_ones(rows, device, apart):
    price = price_of(device)
    groups = plan(rows, device, aligned=True, prefix_apart=apart)
    chosen = sum(cost_of(group.passes, price) for group in groups)
    assert chosen <= SLACK * cost_of(without_padding(rows), price)
    assert chosen <= SLACK * sum(cost_of([[n]], price) for stretches in rows for n in stretches)


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([[]], [([0], [])]),
        ([[5, 1, 1], [5, 1, 1]], [([0, 1], [[5, 5], [1, 1], [1, 1]])]),  # 3 * 24 + 14
        ([[5, 1], [6, 1]], [([0, 1], [[5, 6], [1, 1]])]),  # padding 1, not a third pass
        # 24 + 1000 and 24 + 10 row by row; together 24 + 2000
        ([[1000], [10]], [([1], [[10]]), ([0], [[1000]])]),
        # together without padding: 24 + 20 and 24 + 980 * 2; with: 24 + 2000, and a pass more
        ([[10, 10], [1000]], [([0], [[10], [10]]), ([1], [[1000]])]),
    ],
)
def test_plans_by_hand(rows, groups):
    assert [tuple(group) for group in plan(rows, "cpu")] == groups


def test_a_prefix_apart_is_aligned_at_its_end():
    rows = [[3, 1], [4, 1]]
    assert plan(rows, "cpu", prefix_apart=True)[0].passes == [[3, 4], [1, 1]]
    assert plan([[2], [4, 1]], "cpu", prefix_apart=True)[0].passes == [[2, 4], [0, 1]]
    uneven = [[3], [1, 2]]
    assert cut(uneven, 0) == [[1, 1], [2, 2]]
    assert plan(uneven, "cpu", aligned=True, prefix_apart=True)[0].passes == [[1, 1], [2, 2]]
    assert plan(uneven, "cpu", prefix_apart=True)[0].passes == [[3, 1], [0, 2]]


def test_a_prefix_costs_half():
    """Together 224 / 2 + 2 * 26 = 164; row by row 168 / 2 + 4 * 25 = 184."""
    rows = [[100, 1, 1], [20, 1, 1]]
    assert [group.rows for group in plan(rows, "cpu", prefix_apart=True)] == [[0, 1]]


def test_lock_step_where_many_passes_cost_more_than_much_padding():
    rows = [[7000] + [1] * 400, [1] * 401]
    (group,) = plan(rows, "cpu")  # 24 * 401 + 14_800; row by row 24 * 802 + 7801
    assert group.passes == lock_step(rows)


def test_a_dear_pass_makes_one_group():
    """What a CPU runs row by row, a device with dear passes runs together."""
    rows = [[100, 3], [10, 3]]
    assert len(plan(rows, "cpu")) == 2
    assert len(plan(rows, "cuda")) == 1


def test_small_layers_make_passes_dear():
    rows = [[n] for n in range(60, 188, 2)]
    assert len(plan(rows, "cpu", layer=110_000)) < len(plan(rows, "cpu"))
