"""How figures are written: one place, so that sentences, tables and plots agree.

A no-break space stands before a unit and a true minus before a negative number.
"""

from litereason.report.run import Comparison, Estimate

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


def tokens(estimate: Estimate) -> str:
    """A mean number of tokens or latent steps with its interval."""
    return f"{number(estimate.mean)} {interval(estimate)}"


def rate(estimate: Estimate) -> str:
    """A share of samples with its interval, in percent."""
    return f"{percent(estimate.mean)} {interval(estimate, 100)}"


def probability(p: float) -> str:
    """`p = 0.210` or `p < 0.001`."""
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.3f}"


def count(*items: int) -> str:
    """`n = 500 items`, or both sizes when they differ."""
    sizes = list(dict.fromkeys(number(size, 0) for size in items))
    return f"n{NBSP}={NBSP}{' and '.join(sizes)}{NBSP}items"


def difference(one: Comparison, signed: bool = True) -> str:
    """`+2.0 points [−1.0, 5.0], p = 0.210, n = 500 items`."""
    if one.metric in ("accuracy", "trigger_rate"):
        size, unit = number(100 * one.difference), f"{NBSP}points {interval(one, 100)}"
    elif one.metric == "reward":
        size, unit = number(one.difference, 3), f" {interval(one, digits=3)}"
    else:
        size, unit = number(one.difference), f" {interval(one)}"
    sign = "+" if signed and one.difference > 0 else ""
    return f"{sign}{size}{unit}, {probability(one.p)}, {count(one.items)}"


def duration(seconds: float) -> str:
    """`75` -> `1 min 15 s`; under ten seconds with one decimal."""
    if seconds < 10:
        return f"{number(seconds)}{NBSP}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count}{NBSP}{unit}" for count, unit in parts if count)


def fewer(value: float, reference: float) -> str:
    """`58 % fewer` or `24 % more`, of `reference`; the caller names the denominator."""
    if reference <= 0:
        return "not comparable (the reference is 0)"
    share = 1 - value / reference
    return f"{percent(abs(share), 0)} {'fewer' if share >= 0 else 'more'}"
