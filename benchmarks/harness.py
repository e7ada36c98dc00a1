"""What every `bench_*.py` shares: paired measuring, the record that `run.py` gathers, the models.

A ratio is always `ours / other`. Where less is better (seconds) the goal is `<= x`, where more is
better (rows a second) it is `>= x`. Times are process CPU seconds on one thread by default, so that
neighbours on a shared machine disturb little. What is left out: running several benchmarks and the
results file (`run.py`); goals on absolute times, which would hold on one machine only.
"""

import datetime
import gc
import importlib.metadata
import json
import operator
import os
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

KEYS = (
    *("benchmark", "ours", "other", "ratio", "goal", "holds"),
    *("unit", "n", "date", "machine"),
)
COMPARISONS = {"<=": operator.le, ">=": operator.ge}
STORY = (
    "The lighthouse keeper counted the steps every morning, although nobody had asked him to. There "
    "were two hundred and eleven, and he liked to think that the number had been chosen by someone who "
    "knew how long a man can be alone before he begins to talk to the gulls. On the last day of March "
    "he counted two hundred and ten. He went down again, slowly, with one hand on the wall, and came "
    "up with the same answer. Somewhere between the oil store and the window that looked to the north "
    "a step was missing, and the stairs had closed over the gap as water closes over a stone. He wrote "
    "it in the log, under the wind and the ships, because the log had a column for remarks and he had "
    "never used it. In the evening his sister came with the boat, the post and a sack of potatoes. She "
    "listened, ate, and said that a man who counts has time to paint, and that the railing needed it. "
    "But before she left she climbed to the lamp, and he heard her lips move. At the top she was quiet "
    "for a while. Then she asked how many there had been when their father kept the light, and he said "
    "that their father had never learned to count past a hundred, and had always begun again. "
)


class Pairs(NamedTuple):
    """What `interleaved` measured; `low` and `high` are the quartiles of the paired ratios."""

    ratio: float
    ours: float
    other: float
    low: float
    high: float
    n: int


def interleaved(
    ours: Callable[[], Any],
    other: Callable[[], Any],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
    warm_up: int = 1,
) -> Pairs:
    """Run both `repeats` times in pairs, the order alternating; medians, and that of the ratios."""
    for _ in range(warm_up):
        ours()
        other()
    times: dict[Callable[[], Any], list[float]] = {ours: [], other: []}
    for repeat in range(repeats):
        for run in (ours, other) if repeat % 2 == 0 else (other, ours):
            gc.collect()
            start = clock()
            run()
            times[run].append(clock() - start)
    ratios = [a / b for a, b in zip(times[ours], times[other], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    return Pairs(
        ratio=statistics.median(ratios),
        ours=statistics.median(times[ours]),
        other=statistics.median(times[other]),
        low=low,
        high=high,
        n=repeats,
    )


def as_rates(pairs: Pairs, ours: float = 1, other: float = 1) -> Pairs:
    """Rates from times, where one run of ours (of the other) does so much."""
    share = ours / other
    return Pairs(
        ratio=share / pairs.ratio,
        ours=ours / pairs.ours,
        other=other / pairs.other,
        low=share / pairs.high,
        high=share / pairs.low,
        n=pairs.n,
    )


def holds(ratio: float, goal: str) -> bool:
    """Whether `ratio` meets a goal such as `<= 1.05`."""
    found = re.fullmatch(r"(<=|>=)\s*([0-9.]+)", goal)
    if not found:
        raise ValueError(f"goal {goal!r} is not '<= number' or '>= number'")
    return bool(COMPARISONS[found[1]](ratio, float(found[2])))


def report(
    benchmark: str,
    ours: float,
    other: tuple[str, float],
    goal: str,
    unit: str,
    n: int,
    ratio: float | None = None,
) -> dict[str, Any]:
    """Print the record of one comparison as a line of JSON, and return it.

    Args:
        benchmark: its name; a later result of that name replaces this one.
        ours: our value.
        other: name of the peer or limit, and its value.
        goal: what the ratio should be, `<= x` or `>= x`.
        unit: of both values.
        n: measured pairs.
        ratio: the median of paired ratios; without it `ours / other`.
    """
    name, value = other
    ratio = ours / value if ratio is None else ratio
    record = {
        "benchmark": benchmark,
        "ours": round(ours, 6),
        "other": {name: round(value, 6)},
        "ratio": round(ratio, 4),
        "goal": goal,
        "holds": holds(ratio, goal),
        "unit": unit,
        "n": n,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": {"cpus": os.cpu_count(), "torch": importlib.metadata.version("torch")},
    }
    print(json.dumps(record), flush=True)
    return record


def report_pairs(
    benchmark: str, peer: str, pairs: Pairs, goal: str, unit: str = "CPU s"
) -> dict[str, Any]:
    """`report` for what `interleaved` measured; the spread goes to a line before it."""
    print(f"{benchmark}: quartiles of the ratio {pairs.low:.3f} to {pairs.high:.3f}", flush=True)
    other = (peer, pairs.other)
    return report(benchmark, pairs.ours, other, goal, unit, pairs.n, ratio=pairs.ratio)


def plain_and_latent() -> tuple[Any, Any, Any]:
    """SmolLM2-135M as it is, the same weights with latent steps attached, and the tokenizer."""
    import torch

    import litereason

    torch.set_num_threads(1)
    plain, _ = litereason.load("smollm2-135m")
    latent, tokenizer = litereason.load("smollm2-135m")
    litereason.attach(latent, tokenizer)
    # One copy of the weights, so that neither is luckier in memory than the other.
    latent.load_state_dict(plain.state_dict(), strict=False, assign=True)
    latent.tie_weights()
    return plain, latent.eval(), tokenizer


def text_ids(tokenizer: Any, rows: int, length: int) -> Any:
    """Prose as ids `(rows, length)`; every row starts at another word."""
    import torch

    words = STORY.split()
    starts = [k * len(words) // max(rows, 1) for k in range(rows)]
    again = 1 + length // len(words)  # a word has at least one token
    texts = [" ".join(words[s:] + words * again) for s in starts]
    return torch.tensor([tokenizer(t, add_special_tokens=False).input_ids[:length] for t in texts])
