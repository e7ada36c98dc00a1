"""The learning curves: what was logged in training, by stage.

RL's rewards and lengths are on one scale for all arms, so each has one panel with a line an arm. Losses
are not: each method's adds terms of its own, so each arm has a panel, with its own axis.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from litereason.compare.pairs import MAIN, RIVALS
from litereason.report import numbers
from litereason.report.figures import MUTED, TEXT, marker, new_figure, svg
from litereason.report.run import Run
from litereason.report.style import Style, styles

RL_PANELS = (
    ("reward", "Reward", 1),
    ("discrete_tokens", "Discrete tokens a sample", 1),
    ("trigger_rate", "Trigger rate (%)", 100),
)
# With more trained arms than this in a stage, those that say most come first.
MOST_ARMS = 6
KEY = ("rl", "direct-rl", "rl-lp", *MAIN, *RIVALS)
# Lines longer than this are averaged in equal bins: a page needs no ten thousand points.
POINTS = 30
# A loss that falls by more than this factor is drawn on a logarithmic axis.
STEEP = 10
Line = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The panels of some arms; `arms` for the legend, empty where each panel names its own."""

    arms: tuple[str, ...]
    panels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage's drawings: of the arms that say most, and, where there are more, a second one."""

    name: str
    count: int
    shown: Drawing
    more: Drawing | None


def stages(run: Run) -> list[Stage]:
    """The stages that logged anything, RL first."""
    found = []
    for name, draw in (("rl", _together), ("sft", _apart)):
        arms = list(run.curves.get(name, {}))
        key = [arm for arm in arms if arm in KEY] if len(arms) > MOST_ARMS else []
        rest = [arm for arm in arms if key and arm not in key]
        # RL's second drawing has all lines again; a second one of losses has the other panels alone
        more = draw(run, arms if name == "rl" else rest) if rest else None
        shown = draw(run, key or arms)
        if shown.panels:
            found.append(Stage(name, len(arms), shown, more if more and more.panels else None))
    return found


def _together(run: Run, arms: Sequence[str]) -> Drawing:
    """One panel a quantity of RL, with a line an arm and a thin one a seed."""
    panels = []
    for key, title, scale in RL_PANELS:
        lines = {arm: lines for arm in arms if (lines := _lines(run, "rl", arm, key, scale))}
        if lines:
            name = f"rl-{key.replace('_', '-')}-{len(arms)}"
            panels.append(_panel(run, name, title, lines, title))
    return Drawing(tuple(arms), tuple(panels))


def _apart(run: Run, arms: Sequence[str]) -> Drawing:
    """One panel an arm with its loss in SFT."""
    lines = {arm: lines for arm in arms if (lines := _lines(run, "sft", arm, "loss", 1))}
    chosen = styles(run)
    panels = [
        _panel(run, f"sft-{list(chosen).index(arm)}", run.title(arm), {arm: each}, "Loss", log=True)
        for arm, each in lines.items()
    ]
    return Drawing((), tuple(panels))


def _lines(run: Run, stage: str, arm: str, key: str, scale: float) -> list[Line]:
    """The mean over seeds, then each seed; nothing where the arm did not log it."""
    seeds = run.curves[stage][arm]
    each = [[(row["step"], row[key]) for row in rows if key in row] for rows in seeds]
    mean = run.mean_curve(stage, arm, key)
    drawn = (mean, *filter(None, each)) if mean else ()
    return [_bins([(step, scale * value) for step, value in line]) for line in drawn]


def _panel(
    run: Run, name: str, title: str, lines: dict[str, list[Line]], what: str, log: bool = False
) -> str:
    """One drawing.

    Args:
        lines: by arm the mean over seeds, then each seed.
        what: was logged; for the alternative text.
        log: what falls far has a logarithmic axis.
    """
    figure, axes = new_figure(310, 230)
    chosen, told = styles(run), []
    for arm, (mean, *seeds) in lines.items():
        _draw(axes, chosen[arm], mean, seeds if len(seeds) > 1 else ())
        start, end = (numbers.number(mean[place][1], 2) for place in (0, -1))
        told.append(f"{run.title(arm)} from {start} to {end}")
    axes.set_title(title, color=TEXT, fontsize=13, loc="left", pad=10, parse_math=False)
    axes.set_xlabel("Step", color=MUTED, fontsize=12)
    values = [value for each in lines.values() for line in each for _, value in line]
    if log and min(values) > 0 and max(values) > STEEP * min(values):
        _logarithmic(axes, min(values), max(values))
    elif min(values) >= 0:
        axes.set_ylim(bottom=0)
    return svg(figure, name, f"{what} over training steps. {'; '.join(told)}.")


def _draw(axes: Any, style: Style, mean: Line, seeds: Sequence[Line]) -> None:
    for seed in seeds:
        axes.plot(*zip(*seed, strict=True), color=style.colour, linewidth=0.8, alpha=0.4)
    axes.plot(*zip(*mean, strict=True), color=style.colour, linewidth=1.8)
    # the marker at the end tells the lines apart without colour
    axes.plot(*zip(mean[-1], strict=True), **marker(style, 7), zorder=3, clip_on=False)


def _logarithmic(axes: Any, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 3, 10, 30..."""
    axes.set_yscale("log")
    ticks = [base * 10**power for power in range(-6, 7) for base in (1, 3)]
    axes.set_yticks([tick for tick in ticks if low / 2 <= tick <= high * 1.5])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()


def _bins(line: Line) -> Line:
    """The line as at most `POINTS` means of equally many neighbours."""
    width = -(-len(line) // POINTS)
    parts = [line[start : start + width] for start in range(0, len(line), width)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]
