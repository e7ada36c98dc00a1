"""How figures are written: one place, so that sentences, tables and plots agree.

A no-break space stands before a unit and a true minus before a negative number.
"""

from litereason.report.run import LENGTHS, Arm, Comparison, Estimate

NBSP = "\u00a0"
MINUS = "\u2212"


def number(value: float, digits: int = 1) -> str:
    """`-0.04` -> `0.0`, `-1.26` -> `−1.3`, `12345.6` -> `12,345.6`."""
    text = f"{value:,.{digits}f}"
    if text.startswith("-"):
        text = text[1:] if float(text.replace(",", "")) == 0 else MINUS + text[1:]
    return text


def percent(fraction: float, digits: int = 1) -> str:
    """`.9304` -> `93.0 %`."""
    return number(100 * fraction, digits) + NBSP + "%"


def interval(estimate: Estimate | Comparison, scale: float = 1, digits: int = 1) -> str:
    """`[low, high]`, in units of 1/scale."""
    low, high = (number(scale * end, digits) for end in (estimate.low, estimate.high))
    return f"[{low},{NBSP}{high}]"


def score(estimate: Estimate, metric: str) -> str:
    """A score with its interval: an accuracy in percent, a reward as it is."""
    if metric == "accuracy":
        return f"{percent(estimate.mean)} {interval(estimate, 100)}"
    return f"{number(estimate.mean, 3)} {interval(estimate, digits=3)}"


def digits(value: float) -> int:
    """Decimals of a figure whose unit is not known: three, of a large one one."""
    return 1 if abs(value) >= 10 else 3


def tokens(estimate: Estimate) -> str:
    """A mean number of tokens or latent steps with its interval."""
    return f"{number(estimate.mean)} {interval(estimate)}"


def rate(estimate: Estimate) -> str:
    """A share of samples with its interval, in percent."""
    return f"{percent(estimate.mean)} {interval(estimate, 100)}"


def share(estimate: Estimate) -> str:
    """A share as `93 % [85, 100]`."""
    return f"{percent(estimate.mean, 0)} {interval(estimate, 100, 0)}"


def probability(p: float) -> str:
    """`p = 0.210` or `p < 0.001`; near .05 so many digits that the side can be read."""
    if 0.0495 <= p < 0.0505 and p != 0.05:
        return f"p{NBSP}={NBSP}{p:.5f}"
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.3f}"


def count(*items: int, seeds: int = 1) -> str:
    """`n = 500 items`, or both sizes when they differ; `n = 500 items × 3 seeds`."""
    sizes = list(dict.fromkeys(number(size, 0) for size in items))
    times = f" ×{NBSP}{seeds}{NBSP}seeds" if seeds > 1 else ""
    return f"n{NBSP}={NBSP}{' and '.join(sizes)}{NBSP}items{times}"


def judged(*arms: Arm) -> str:
    """What arms were judged on: their items, and their seeds when there are several."""
    return count(*(arm.items for arm in arms), seeds=min(len(arm.seeds) for arm in arms))


def difference(one: Comparison, signed: bool = True) -> str:
    """`+2.0 points [−1.0, 5.0], corrected p = 0.210, n = 500 items`."""
    told = f"{size(one, signed)}, corrected {probability(one.p_corrected)}"
    return f"{told}, {count(one.items, seeds=len(one.seeds))}"


def size(one: Comparison, signed: bool = True) -> str:
    """`+2.0 points [−1.0, 5.0]`."""
    if one.metric in ("accuracy", "trigger_rate"):
        told = f"{number(100 * one.difference)}{NBSP}points {interval(one, 100)}"
    elif one.metric in LENGTHS:
        told = f"{number(one.difference)} {interval(one)}"
    else:
        places = digits(max(abs(one.low), abs(one.high)))
        told = f"{number(one.difference, places)} {interval(one, digits=places)}"
    return ("+" if signed and one.difference > 0 else "") + told


def duration(seconds: float) -> str:
    """`75` -> `1 min 15 s`; under ten seconds with one decimal."""
    if seconds < 10:
        return f"{number(seconds)}{NBSP}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count}{NBSP}{unit}" for count, unit in parts if count)


def fewer(share: Estimate) -> str:
    """A share saved as `58 % [55, 61] fewer` or `24 % [20, 28] more`; the caller names what of."""
    if share.mean < 0:
        more = Estimate(-share.mean, -share.high, -share.low)
        return f"{percent(more.mean, 0)} {interval(more, 100, 0)} more"
    return f"{percent(share.mean, 0)} {interval(share, 100, 0)} fewer"


def fewer_means(value: float, reference: float) -> str:
    """The same of two means, where no interval is known."""
    if reference <= 0:
        return "not comparable (the reference is 0)"
    share = 1 - value / reference
    return f"{percent(abs(share), 0)} {'fewer' if share >= 0 else 'more'}"


def compact(value: float) -> str:
    """`1234567` -> `1.23 M`: three digits and a unit."""
    for unit, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{NBSP}{unit}"
    return number(value, 0 if value == int(value) else 1)
