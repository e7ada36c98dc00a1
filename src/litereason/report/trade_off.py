"""The trade-off plot: score against tokens, intervals both ways, and the Pareto front.

How sure the front is stands in the markers: the fuller one is, the larger the share of bootstrap draws in
which its arm is on the front.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from litereason.compare.pairs import MAIN, PAUSE, RIVALS, TOLD, WORDS
from litereason.report import labels, numbers
from litereason.report.figures import MUTED, PAGE, TEXT, marker, new_figure, svg
from litereason.report.labels import Box, Name, Place
from litereason.report.run import Arm, Run
from litereason.report.style import Style, styles

# With more arms than this, those that say most have a plot of their own, and controls (ablations, trained
# pauses) are drawn faintly, and ablations named in the legend only.
MOST_NAMES = 10
KEY = ("base", "rl", "direct-rl", *MAIN, *PAUSE.values(), *WORDS, *RIVALS)
NEAR = 20  # a name that is further from its marker's height has a line to it


def key_arms(run: Run) -> tuple[Arm, ...]:
    """The arms that say most; all, where they are few. What is on the front is never left out."""
    if len(run.arms) <= MOST_NAMES:
        return run.arms
    key = {*KEY, *(arm.name for arm in front(run))}
    return tuple(arm for arm in run.arms if arm.name in key)


def plot(run: Run, narrow: bool = False, whole: bool = False) -> str:
    """Score against tokens: the marker at the total, a dotted line back to the discrete tokens.

    Args:
        whole: draw all arms, however many, not those alone that say most.
    """
    name = ("trade-off-all" if whole else "trade-off") + ("-narrow" if narrow else "-wide")
    chosen = styles(run)
    if not whole:
        run = dataclasses.replace(run, arms=key_arms(run))
    figure, axes = new_figure(*((350, 380) if narrow else (860, 500)))
    scale = 100 if run.metric == "accuracy" else 1
    spare = 1.06 if narrow else 1.12
    lengths = [arm.total_tokens for arm in run.arms]
    # one interval far beyond all means runs out of the plot
    most = min(max(one.high for one in lengths), 1.25 * max(one.mean for one in lengths))
    right = spare * max(most, 1)
    _draw_front(axes, run, scale, right)
    for arm in run.arms:
        _draw_arm(axes, arm, run, chosen[arm.name], scale)
    axes.set_xlim(0, right)
    axes.set_ylim(*_bounds(run, scale))
    if majority := run.majority:
        label, share = majority
        axes.axhline(100 * share, color=MUTED, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
        axes.annotate(
            f"always “{label}”: {numbers.percent(share)}",
            (1, 100 * share),
            xycoords=("axes fraction", "data"),
            xytext=(0, -5),
            textcoords="offset points",
            ha="right",
            va="top",
            color=MUTED,
            fontsize=12,
            parse_math=False,
        )
    axes.set_xlabel("Tokens a sample, latent steps counted", color=TEXT, fontsize=13, labelpad=8)
    unit = " (%)" if scale == 100 else ""
    axes.set_title(f"{run.metric.capitalize()}{unit}", color=TEXT, fontsize=13, loc="left", pad=12)
    if not narrow:
        _label_arms(figure, axes, run, chosen, scale)
    return svg(figure, name, _alternative(run))


def _alternative(run: Run) -> str:
    parts = [
        f"{arm.title}: {numbers.score(run.score(arm), run.metric)} at "
        f"{numbers.tokens(arm.total_tokens)} tokens, of which "
        f"{numbers.number(arm.discrete_tokens.mean)} discrete"
        for arm in run.arms
    ]
    on_it = ", ".join(arm.title for arm in front(run))
    return (
        f"{run.metric.capitalize()} against tokens a sample. {'; '.join(parts)}. On the Pareto front "
        f"of the means: {on_it}."
    )


def _sure(run: Run, arm: Arm) -> float:
    """How full a marker is: the arm's share on the front; full where the run knows no shares."""
    known = any(one.front is not None for one in run.arms)
    return (arm.front or 0.0) if known else 1.0


def front(run: Run) -> list[Arm]:
    """The arms whose means no other arm betters with no more tokens, by tokens.

    No ablations, and none that failed under a seed: its other seeds may be its better ones.
    """
    found: list[Arm] = []
    whole = [arm for arm in run.arms if not arm.ablation and arm.status == "done"]
    for arm in sorted(whole, key=lambda arm: (arm.total_tokens.mean, -run.score(arm).mean)):
        if not found or run.score(arm).mean > run.score(found[-1]).mean:
            found.append(arm)
    return found


def labelled(arms: Sequence[Arm]) -> list[Arm]:
    """Those of a plot's arms that are named in it: where they are many, ablations are not."""
    many = len(arms) > MOST_NAMES
    return [arm for arm in arms if not (many and arm.ablation)]


def _quiet(run: Run, arm: Arm) -> bool:
    """Whether an arm stands back: a control among many arms."""
    control = arm.ablation is not None or arm.name in (*PAUSE.values(), *TOLD.values())
    return control and len(run.arms) > MOST_NAMES


def _draw_front(axes: Any, run: Run, scale: float, right: float) -> None:
    """The best score that means reach with so many tokens or fewer."""
    found = front(run)
    x = [*(arm.total_tokens.mean for arm in found), right]
    y = [scale * run.score(arm).mean for arm in found]
    axes.step(x, [*y, *y[-1:]], where="post", color=MUTED, linewidth=6, alpha=0.22, zorder=1)


def _draw_arm(axes: Any, arm: Arm, run: Run, style: Style, scale: float) -> None:
    score, tokens, written = run.score(arm), arm.total_tokens, arm.discrete_tokens.mean
    x, y = tokens.mean, scale * score.mean
    main, quiet = arm.name in MAIN, _quiet(run, arm)
    line = {"color": style.colour, "linewidth": 2.4 if main else 1.4}
    line["alpha"] = 0.25 if quiet else 1 if main else 0.6
    axes.plot([x, x], [scale * score.low, scale * score.high], **line)
    axes.plot([tokens.low, tokens.high], [y, y], **line)
    if written < x and not quiet:
        dotted = {"linestyle": (0, (1, 2)), "linewidth": 1.2, "alpha": 0.8}
        axes.plot([written, x], [y, y], color=style.colour, **dotted)
        axes.plot([written], [y], marker="|", markersize=9, color=style.colour, linewidth=1)
    size = 7 if style.hollow or quiet else 12 if main else 10
    # the page shows through a half-filled marker, not the lines behind it
    axes.plot([x], [y], **marker(style, size) | {"markerfacecolor": PAGE}, zorder=3)
    if not style.hollow:
        axes.plot([x], [y], **marker(style, size, _sure(run, arm)), zorder=4)


def _label_arms(figure: Any, axes: Any, run: Run, chosen: dict[str, Style], scale: float) -> None:
    """Name the markers; a name that had to move away has a thin line to its own."""
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the names must not move the axes they were placed on
    arms, names = labelled(run.arms), []
    for arm in arms:
        x, y = axes.transData.transform((arm.total_tokens.mean, scale * run.score(arm).mean))
        start = axes.transData.transform((arm.discrete_tokens.mean, 0))[0]
        letter = 7.3 if arm.name in MAIN else 6.6  # bold ones are wider
        names.append(Name(letter * len(arm.title) + 4, 15, x, y, start))
    inside = axes.get_window_extent()
    frame = (inside.x0, inside.y0, figure.bbox.width, inside.y1 + 12)
    places = labels.place(names, _covered(figure, axes, run, scale), frame)
    for arm, name, place in zip(arms, names, places, strict=True):
        colour = chosen[arm.name].colour
        axes.annotate(
            arm.title,
            (name.x, name.y),
            xycoords="figure pixels",
            xytext=(place.x, place.y),
            textcoords="figure pixels",
            ha=place.side,
            va="center",
            color=colour,
            fontsize=13,
            fontweight="bold" if arm.name in MAIN else "normal",
            annotation_clip=False,
            parse_math=False,
            arrowprops=_line(place, colour) if abs(place.y - name.y) > NEAR else None,
        )


def _covered(figure: Any, axes: Any, run: Run, scale: float) -> list[Box]:
    """What names should not cover, in pixels: markers, lines, the words at the commonest answer."""
    to_pixels, boxes = axes.transData.transform, []
    for arm in run.arms:
        score, tokens = run.score(arm), arm.total_tokens
        x, y = to_pixels((tokens.mean, scale * score.mean))
        boxes.append((x - 8, y - 8, x + 8, y + 8))
        if not _quiet(run, arm):
            first = min(tokens.low, arm.discrete_tokens.mean)
            left, bottom = to_pixels((first, scale * score.low))
            right, top = to_pixels((tokens.high, scale * score.high))
            boxes += [(x - 3, bottom, x + 3, top), (left - 4, y - 3, right, y + 3)]
    if majority := run.majority:
        line, width = to_pixels((0, 100 * majority[1]))[1], figure.bbox.width
        boxes += [(0, line - 3, width, line + 3), (width - 150, line - 20, width, line)]
    return boxes


def _line(place: Place, colour: str) -> dict[str, Any]:
    """How matplotlib draws the line from a name that moved away to its marker."""
    side = {"left": 0.0, "center": 0.5, "right": 1.0}[place.side]
    look = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.7}
    return look | {"relpos": (side, 0.5), "shrinkA": 2, "shrinkB": 7}


def _bounds(run: Run, scale: float) -> tuple[float, float]:
    """Where the score's axis begins and ends.

    Intervals are inside, but for ends far from all means, and the commonest answer's score.
    """
    scores = [run.score(arm) for arm in run.arms]
    means = [one.mean for one in scores]
    room = 0.35 * (max(means) - min(means)) or 1.0
    low = max(min(one.low for one in scores), min(means) - room)
    high = min(max(one.high for one in scores), max(means) + room)
    if majority := run.majority:
        low, high = min(low, majority[1]), max(high, majority[1])
    margin = 0.04 * (high - low) or 0.01
    return scale * (low - margin), scale * (high + margin)
