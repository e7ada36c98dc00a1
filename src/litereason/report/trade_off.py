"""The trade-off plot: score against tokens, intervals both ways, and the Pareto front.

How sure the front is stands in the markers: the fuller one is, the larger the share of bootstrap draws in
which its arm is on the front.
"""

from typing import Any

from litereason.report import numbers
from litereason.report.figures import MUTED, PAGE, TEXT, marker, new_figure, svg
from litereason.report.run import Arm, Run
from litereason.report.style import Style, styles

# With more arms than this, ablations are named in the legend only.
MOST_NAMES = 10


def majority_share(run: Run) -> tuple[str, float] | None:
    """The commonest label and its share of the items, when there are just two labels."""
    labels = {
        record.item: record.label
        for arm in run.arms
        for one in arm.evaluations
        for record in one.records
    }
    kinds = sorted(set(labels.values()))
    # a handful of items that happen to have two labels is no binary task
    if len(kinds) != 2 or len(labels) < 10 or run.metric != "accuracy":
        return None
    share, label = max((list(labels.values()).count(kind) / len(labels), kind) for kind in kinds)
    return label, share


def plot(run: Run, narrow: bool = False) -> str:
    """Score against tokens: the marker at the total, a thin line back to the discrete tokens."""
    figure, axes = new_figure(*((350, 380) if narrow else (860, 500)))
    scale = 100 if run.metric == "accuracy" else 1
    chosen = styles(run)
    spare = 1.06 if narrow else 1.12
    right = spare * max(max(arm.total_tokens.high for arm in run.arms), 1)
    _draw_front(axes, run, scale, right)
    for arm in run.arms:
        _draw_arm(axes, arm, run, chosen[arm.name], scale)
    axes.set_xlim(0, right)
    if majority := majority_share(run):
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
        )
    axes.set_xlabel("Tokens a sample, latent steps counted", color=TEXT, fontsize=13, labelpad=8)
    unit = " (%)" if scale == 100 else ""
    axes.set_title(f"{run.metric.capitalize()}{unit}", color=TEXT, fontsize=13, loc="left", pad=12)
    if not narrow:
        _label_arms(figure, axes, run, chosen, scale)
    name = "trade-off-narrow" if narrow else "trade-off-wide"
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


def front(run: Run) -> list[Arm]:
    """The arms whose means no other arm betters with no more tokens, by tokens; no ablations."""
    found: list[Arm] = []
    whole = [arm for arm in run.arms if not arm.ablation]
    for arm in sorted(whole, key=lambda arm: (arm.total_tokens.mean, -run.score(arm).mean)):
        if not found or run.score(arm).mean > run.score(found[-1]).mean:
            found.append(arm)
    return found


def labelled(run: Run) -> list[Arm]:
    """The arms that are named in the plot: where they are many, ablations are not."""
    if len(run.arms) <= MOST_NAMES:
        return list(run.arms)
    return [arm for arm in run.arms if not arm.ablation]


def _draw_front(axes: Any, run: Run, scale: float, right: float) -> None:
    """The best score that means reach with so many tokens or fewer."""
    found = front(run)
    x = [*(arm.total_tokens.mean for arm in found), right]
    y = [scale * run.score(arm).mean for arm in found]
    axes.step(x, [*y, *y[-1:]], where="post", color=MUTED, linewidth=6, alpha=0.22, zorder=1)


def _draw_arm(axes: Any, arm: Arm, run: Run, style: Style, scale: float) -> None:
    score, tokens, written = run.score(arm), arm.total_tokens, arm.discrete_tokens.mean
    x, y = tokens.mean, scale * score.mean
    axes.plot([x, x], [scale * score.low, scale * score.high], color=style.colour, linewidth=2)
    axes.plot([tokens.low, tokens.high], [y, y], color=style.colour, linewidth=2)
    if written < x:
        axes.plot([written, x], [y, y], color=style.colour, linewidth=1, alpha=0.8)
        axes.plot([written], [y], marker="|", markersize=9, color=style.colour, linewidth=1)
    size = 8 if style.hollow else 10
    # the page shows through a half-filled marker, not the lines behind it
    axes.plot([x], [y], **marker(style, size) | {"markerfacecolor": PAGE}, zorder=3)
    if not style.hollow:
        axes.plot([x], [y], **marker(style, size, 1 if arm.front is None else arm.front), zorder=4)


def _label_arms(figure: Any, axes: Any, run: Run, chosen: dict[str, Style], scale: float) -> None:
    """Name each marker where the name hits no other marker, interval or name."""
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the labels must not move the axes they were placed on
    to_pixels, taken = axes.transData.transform, []
    for arm in run.arms:
        score, tokens = run.score(arm), arm.total_tokens
        x, bottom = to_pixels((tokens.mean, scale * score.low))
        top = to_pixels((0, scale * score.high))[1]
        taken.append((x - 7, bottom, x + 7, top))
        left, middle = to_pixels((min(tokens.low, arm.discrete_tokens.mean), scale * score.mean))
        right = to_pixels((tokens.high, 0))[0]
        taken.append((left - 8, middle - 7, right + 4, middle + 7))
    if majority := majority_share(run):
        line = to_pixels((0, 100 * majority[1]))[1]
        taken.append((0, line - 3, figure.bbox.width, line + 3))
    frame = axes.get_window_extent()
    for arm in labelled(run):
        y = scale * run.score(arm).mean
        width, height = 6.6 * len(arm.title) + 4, 15
        best, least = None, float("inf")
        for x, side, shift in _places(arm):
            px, py = to_pixels((x, y))
            start = px + 11 if side == "left" else px - 11 - width
            box = (start, py + shift - height / 2, start + width, py + shift + height / 2)
            cost = sum(_overlap(box, other) for other in taken) + abs(shift)
            if box[0] < frame.x0 or box[2] > figure.bbox.width or box[1] < frame.y0:
                cost += 1e6
            if cost < least:
                best, least = (x, side, shift, box), cost
        assert best, "there is always a place"
        x, side, shift, box = best
        taken.append(box)
        axes.annotate(
            arm.title,
            (x, y),
            xytext=(11 if side == "left" else -11, shift),
            textcoords="offset points",
            ha=side,
            va="center",
            color=chosen[arm.name].colour,
            fontsize=13,
            annotation_clip=False,
        )


def _places(arm: Arm) -> list[tuple[float, str, int]]:
    """Where an arm's name may stand: (x, text's own side, shift upwards), the best first."""
    shifts = (0, 15, -15, 28, -28, 42, -42)
    right = [(arm.total_tokens.mean, "left", shift) for shift in shifts]
    left = [(arm.discrete_tokens.mean, "right", shift) for shift in shifts]
    return right + left


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
