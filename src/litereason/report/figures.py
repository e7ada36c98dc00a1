"""The report's plots: matplotlib -> SVG text that takes its colours from the page.

Placeholder colours are swapped for CSS variables, so that one drawing serves light and dark. Text
stays text in the page's own font. What a plot shows is said in words by its alternative text;
captions and legends are the template's.
"""

import io
import re
from typing import Any

from litereason.errors import ConfigError
from litereason.report import numbers
from litereason.report.run import Arm, Run
from litereason.report.style import COLOURS, Style, styles

TEXT, MUTED, RULE, PAGE = "#010203", "#010204", "#010205", "#010206"
RL_PANELS = (
    ("reward", "Reward", 1),
    ("discrete_tokens", "Discrete tokens a sample", 1),
    ("trigger_rate", "Trigger rate (%)", 100),
)
SFT_PANELS = (("loss", "Loss", 1),)
# Lines longer than this are averaged in equal bins: a page needs no ten thousand points.
POINTS = 60


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            "the report draws with matplotlib, which is not installed: "
            "pip install 'litereason[report]'"
        ) from error
    return matplotlib


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes; `width` x `height` in CSS pixels, which are SVG units here."""
    _matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=MUTED, labelsize=12, length=0, pad=6)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, name: str, label: str) -> str:
    """The figure as inline SVG; `name` keeps ids apart, `label` is the alternative text."""
    stream = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": name}
    with _matplotlib().rc_context(settings):
        figure.savefig(stream, format="svg", transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # drop what only a stand-alone file needs; the <style> would leak into the page
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view, "matplotlib writes a viewBox"
    alternative = _attribute(label)
    opening = f'<svg {view[0]} role="img" aria-label="{alternative}" class="plot {name}">'
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1, flags=re.S)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text).replace(
        "xlink:href", "href"
    )
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for placeholder, value in _variables().items():
        text = text.replace(placeholder, value)
    return re.sub(r"\n\s*", "\n", text)


def _attribute(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text


def _variables() -> dict[str, str]:
    arms = {light: f"var(--arm-{index})" for index, (light, _) in enumerate(COLOURS)}
    page = {TEXT: "var(--text)", MUTED: "var(--muted)", RULE: "var(--rule)", PAGE: "var(--page)"}
    return arms | page


def swatch(style: Style) -> str:
    """A small drawing of an arm's marker for legends and tables."""
    figure, axes = _figure(16, 16)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.plot([0], [0], **_marker(style, 9))
    text = _svg(figure, "swatch", "")
    return text.replace('role="img" aria-label=""', 'aria-hidden="true"')


def _marker(style: Style, size: float) -> dict[str, Any]:
    return {
        "marker": style.marker,
        "markersize": size,
        "markeredgewidth": 1.8,
        "markeredgecolor": style.colour,
        "markerfacecolor": PAGE if style.hollow else style.colour,
        "linestyle": "none",
    }


def majority_share(run: Run) -> tuple[str, float] | None:
    """The commonest label and its share of the items, when there are just two labels."""
    labels = {record.item: record.label for arm in run.arms for record in arm.records}
    kinds = sorted(set(labels.values()))
    # a handful of items that happen to have two labels is no binary task
    if len(kinds) != 2 or len(labels) < 10 or run.metric != "accuracy":
        return None
    share, label = max((list(labels.values()).count(kind) / len(labels), kind) for kind in kinds)
    return label, share


def trade_off(run: Run, narrow: bool = False) -> str:
    """Score against tokens: the marker at the discrete tokens, a thin line on to the total."""
    figure, axes = _figure(*((350, 380) if narrow else (860, 500)))
    scale = 100 if run.metric == "accuracy" else 1
    chosen = styles(run)
    for arm in run.arms:
        _draw_arm(axes, arm, run, chosen[arm.name], scale)
    spare = 1.06 if narrow else 1.12
    axes.set_xlim(0, spare * max(max(arm.total_tokens.high for arm in run.arms), 1))
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
    axes.set_xlabel("Tokens a sample", color=TEXT, fontsize=13, labelpad=8)
    unit = " (%)" if scale == 100 else ""
    axes.set_title(f"{run.metric.capitalize()}{unit}", color=TEXT, fontsize=13, loc="left", pad=12)
    if not narrow:
        _label_arms(figure, axes, run, chosen, scale)
    parts = [
        f"{arm.title}: {numbers.score(run.score(arm), run.metric)} at "
        f"{numbers.number(arm.discrete_tokens.mean)} discrete tokens, "
        f"{numbers.number(arm.total_tokens.mean)} with latent steps"
        for arm in run.arms
    ]
    alternative = f"{run.metric.capitalize()} against tokens a sample. " + "; ".join(parts) + "."
    return _svg(figure, "trade-off-narrow" if narrow else "trade-off-wide", alternative)


def _draw_arm(axes: Any, arm: Arm, run: Run, style: Style, scale: float) -> None:
    score, x, total = run.score(arm), arm.discrete_tokens.mean, arm.total_tokens.mean
    y = scale * score.mean
    axes.plot([x, x], [scale * score.low, scale * score.high], color=style.colour, linewidth=2)
    if total > x:
        axes.plot([x, total], [y, y], color=style.colour, linewidth=1, alpha=0.8)
        axes.plot([total], [y], marker="|", markersize=9, color=style.colour, linewidth=1)
    axes.plot([x], [y], **_marker(style, 10), zorder=3)


def _label_arms(figure: Any, axes: Any, run: Run, chosen: dict[str, Style], scale: float) -> None:
    """Name each marker where the name hits no other marker, interval or name."""
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the labels must not move the axes they were placed on
    to_pixels, taken = axes.transData.transform, []
    for arm in run.arms:
        score = run.score(arm)
        left, bottom = to_pixels((arm.discrete_tokens.mean, scale * score.low))
        right, top = to_pixels((arm.total_tokens.mean, scale * score.high))
        taken.append((left - 7, bottom, left + 7, top))
        middle = to_pixels((0, scale * score.mean))[1]
        taken.append((left - 8, middle - 7, right + 4, middle + 7))
    if majority := majority_share(run):
        line = to_pixels((0, 100 * majority[1]))[1]
        taken.append((0, line - 3, figure.bbox.width, line + 3))
    frame = axes.get_window_extent()
    for arm in run.arms:
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


def curves(run: Run, stage: str, panels: tuple[tuple[str, str, float], ...]) -> list[str]:
    """One drawing a quantity that was logged in `stage`, one line an arm."""
    drawn = []
    for key, title, scale in panels:
        lines = {
            name: [(row["step"], scale * row[key]) for row in rows if key in row]
            for name, rows in run.curves.get(stage, {}).items()
        }
        lines = {name: line for name, line in lines.items() if line}
        if lines:
            drawn.append(_panel(run, f"{stage}-{key.replace('_', '-')}", title, lines))
    return drawn


def _panel(run: Run, name: str, title: str, lines: dict[str, list[tuple[float, float]]]) -> str:
    figure, axes = _figure(310, 230)
    chosen, told = styles(run), []
    for arm, line in lines.items():
        binned = _bins(line)
        style = chosen[arm]
        axes.plot(*zip(*binned, strict=True), color=style.colour, linewidth=1.8)
        # the marker at the end tells the lines apart without colour
        axes.plot(*zip(binned[-1], strict=True), **_marker(style, 7), zorder=3, clip_on=False)
        start, end = (numbers.number(binned[place][1], 2) for place in (0, -1))
        told.append(f"{run.title(arm)} from {start} to {end}")
    axes.set_title(title, color=TEXT, fontsize=13, loc="left", pad=10)
    axes.set_xlabel("Step", color=MUTED, fontsize=12)
    values = [value for line in lines.values() for _, value in line]
    if min(values) >= 0:
        axes.set_ylim(bottom=0)
    return _svg(figure, name, f"{title} over training steps. {'; '.join(told)}.")


def _bins(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The line as at most `POINTS` means of equally many neighbours."""
    width = -(-len(line) // POINTS)
    parts = [line[start : start + width] for start in range(0, len(line), width)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]
