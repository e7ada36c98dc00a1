"""How a batch of rows with latent slots is cut into passes: the cheapest of some plans.

A row is a list of stretches, each of which starts where a latent needs the state before it; a pass
may take any number of positions up to a row's next slot. All rows of a group go through the same
passes, over one KV cache. Two things cost: every pass (the weights are read again), and every
position of a pass, padding included. Between them stand

- lock-step: every pass takes a whole stretch of every row; few passes, much padding;
- no padding: a pass ends at the first row's slot; many passes;
- a bound on the padding of a pass, in between;
- several groups, down to row by row, for rows of very different lengths.

Pure functions of integers. What is left out: attention's own cost, and the time of copying caches,
which is part of a pass's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

# What a pass costs, in positions. Measured on SmolLM2-135M, one CPU thread, forward and backward; a GPU's
# is a guess (untested on GPU): it is far from full at a few hundred positions.
PASS_COST = {"cpu": 24}
PASS_COST_ELSEWHERE = 512
# In small layers a call costs more than its arithmetic: with layers of so many parameters a pass costs
# twice as many positions. For the demo's model (110,000 a layer) that makes 240.
SMALL_LAYER = 1_000_000
# Smaller groups are taken if they cost at most this much more than the cheapest: they need less memory.
TOLERANCE = 0.1

Counts = list[list[int]]  # positions of every row (inner) in every pass (outer)


class Group(NamedTuple):
    """Rows that run together, and what every pass takes of each."""

    rows: list[int]
    passes: Counts


def plan(
    rows: Sequence[Sequence[int]],
    device: str,
    aligned: bool = False,
    prefix_apart: bool = False,
    layer: float = math.inf,
) -> list[Group]:
    """Groups and passes with the lowest estimated cost, or nearly, and smaller groups.

    Args:
        rows: for each row the lengths of its stretches.
        device: type of device, for the cost of a pass.
        aligned: no padding may stand between a row's positions (sliding windows count them).
        prefix_apart: first stretches have passes of their own, at half the cost: without gradient.
        layer: parameters of one of the model's layers.
    """
    price = PASS_COST.get(device, PASS_COST_ELSEWHERE) * (1 + SMALL_LAYER / layer)
    order = sorted(range(len(rows)), key=lambda i: sum(rows[i]))
    found: list[tuple[float, list[Group]]] = []
    size = len(rows)
    while True:
        groups, cost = [], 0.0
        for start in range(0, len(order), size):
            members = sorted(order[start : start + size])
            chosen = [rows[i] for i in members]
            first: tuple[Counts, float] = ([], 0.0)
            if prefix_apart and not aligned:
                first = _cheapest([row[:1] for row in chosen], price, aligned)
                chosen = [row[1:] for row in chosen]
            rest = _cheapest(chosen, price, aligned)
            groups.append(Group(members, first[0] + rest[0]))
            cost += first[1] / 2 + rest[1]
        found.append((cost, groups))
        if size == 1:
            break
        size = (size + 1) // 2
    enough = min(cost for cost, _ in found) * (1 + TOLERANCE)
    return [groups for cost, groups in found if cost <= enough][-1]


def _cheapest(rows: list[Sequence[int]], price: float, aligned: bool) -> tuple[Counts, float]:
    """(passes, cost) of one group: the best bound on the padding of a pass."""
    bounds = [0.0] if aligned else [0.0, *(price * 4.0**k for k in range(5)), math.inf]
    plans = [cut(rows, bound) for bound in bounds]
    costs = [sum(price + len(rows) * max(counts) for counts in passes) for passes in plans]
    cost = min(costs)
    return plans[costs.index(cost)], cost


def cut(rows: Sequence[Sequence[int]], padding: float) -> Counts:
    """Passes that pad at most `padding` positions each; rows that have ended do not count."""
    left = [list(reversed(row)) for row in rows]
    passes = []
    while any(left):
        ahead = [row[-1] if row else 0 for row in left]
        waiting = sorted(n for n in ahead if n)
        length = max(n for k, n in enumerate(waiting) if k * n - sum(waiting[:k]) <= padding)
        counts = [min(length, n) for n in ahead]
        for row, count in zip(left, counts, strict=True):
            if row:
                row[-1] -= count
                if not row[-1]:
                    row.pop()
        passes.append(counts)
    return passes
