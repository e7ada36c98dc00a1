"""The report: a run directory becomes one HTML file that stands alone.

Everything shown was measured before: this package reads records and summaries, and imports neither
torch nor transformers. jinja2 and matplotlib come with `pip install 'litereason[report]'`.

    run.py       what a run directory holds, as plain data
    read.py      its files -> run.py, every field checked
    numbers.py   how figures are written
    findings.py  plain sentences on what held and what did not
    style.py     an arm's colour and marker
    figures.py   matplotlib -> inline SVG
    traces.py    the items shown, and their thoughts
    page.html.j2, page.css   the page
"""

import os
from importlib import resources
from pathlib import Path
from typing import Any

from litereason.errors import ConfigError
from litereason.report import figures, numbers, traces
from litereason.report.findings import findings, summary
from litereason.report.read import read_run
from litereason.report.run import Run
from litereason.report.style import COLOURS, styles

__all__ = ["write_report"]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory as one self-contained HTML file.

    Args:
        run: the run directory; at least one arm must be evaluated (`run/eval/<arm>/`).
        out: the file to write; default `run/report.html`. It appears complete or not at all.

    Returns:
        The path written.

    Raises:
        DataError: no arm was evaluated, or a file is broken (named with its line).
        ConfigError: jinja2 or matplotlib is not installed.
    """
    run = Path(run)
    out = Path(out) if out else run / "report.html"
    page = _render(read_run(run))
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def _render(run: Run) -> str:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise ConfigError(
            "the report is made with jinja2, which is not installed: "
            "pip install 'litereason[report]'"
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # only our own drawings and style sheet are trusted; all that was read is escaped
    rl = [Markup(svg) for svg in figures.curves(run, "rl", figures.RL_PANELS)]
    sft = [Markup(svg) for svg in figures.curves(run, "sft", figures.SFT_PANELS)]
    values: dict[str, Any] = {
        "run": run,
        "name": run.path.resolve().name,
        "css": Markup(_file("page.css")),
        "colours": COLOURS,
        "summary": summary(run),
        "findings": findings(run),
        "trade_off": [Markup(figures.trade_off(run, narrow)) for narrow in (False, True)],
        "majority": figures.majority_share(run),
        "swatches": {name: Markup(figures.swatch(one)) for name, one in styles(run).items()},
        "curves": {"rl": rl, "sft": sft},
        "choice": traces.choose(run),
        "numbers": numbers,
        "settings": _settings(run),
    }
    return environment.from_string(_file("page.html.j2")).render(values)


def _settings(run: Run) -> dict[str, str]:
    """What was evaluated; many values of one setting are counted."""
    shown = {
        "Task": [arm.task for arm in run.arms],
        "Split": [arm.split for arm in run.arms],
        "Model": [arm.model for arm in run.arms],
        "Items": [numbers.number(arm.items, 0) for arm in run.arms],
        "Samples an item": [numbers.number(arm.samples, 0) for arm in run.arms],
        "Seed": [str(arm.seed) for arm in run.arms],
    }
    found = {}
    for name, values in shown.items():
        kinds = list(dict.fromkeys(values))
        # each arm's own model stands beside its command
        found[name] = f"{len(kinds)} different ones" if len(kinds) > 2 else ", ".join(kinds)
    return found


def _file(name: str) -> str:
    return resources.files("litereason.report").joinpath(name).read_text(encoding="utf-8")
