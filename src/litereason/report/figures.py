"""What the report draws with: matplotlib -> SVG text that takes its colours from the page.

Placeholder colours are swapped for CSS variables, so that one drawing serves light and dark. Text
stays text in the page's own font. What a plot shows is said in words by its alternative text;
captions and legends are the template's.
"""

import io
import re
from typing import Any

from litereason.errors import ConfigError
from litereason.report.style import COLOURS, Style

TEXT, MUTED, RULE, PAGE = "#010203", "#010204", "#010205", "#010206"


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            "the report draws with matplotlib, which is not installed: "
            "pip install 'litereason[report]'"
        ) from error
    return matplotlib


def new_figure(width: float, height: float) -> tuple[Any, Any]:
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


def svg(figure: Any, name: str, label: str) -> str:
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
    # the page's own font: matplotlib has written it as `font: SIZE NAMES` and as properties
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
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
    figure, axes = new_figure(16, 16)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.plot([0], [0], **marker(style, 9))
    text = svg(figure, "swatch", "")
    return text.replace('role="img" aria-label=""', 'aria-hidden="true"')


def marker(style: Style, size: float, fill: float = 1.0) -> dict[str, Any]:
    """How matplotlib draws an arm's marker; `fill` from 0 (hollow) to 1, and hollow ones stay so."""
    return {
        "marker": style.marker,
        "markersize": size,
        "markeredgewidth": 1.8,
        "markeredgecolor": style.colour,
        "markerfacecolor": PAGE if style.hollow else (style.colour, fill),
        "linestyle": "none",
    }
