"""The report: a comparison of several seeds, or an ordinary run, becomes one HTML file that stands alone.

Everything shown was measured before: this package reads records and summaries, and imports neither
torch nor transformers. jinja2 and matplotlib come with `pip install 'litereason[report]'`.

    run.py       what a run directory holds, as plain data
    fields.py, arms.py, read.py    its files -> run.py, every field checked
    numbers.py   how figures are written
    claims.py, latents.py, findings.py, glance.py    plain sentences on what held and what did not
    style.py     an arm's colour and marker
    figures.py, trade_off.py, labels.py, curves.py    matplotlib -> inline SVG
    traces.py    the items shown without JavaScript, and their thoughts
    viewer.py    the records that the trace viewer shows
    *.html.j2, page.css, viewer.js    the page
"""

import base64
import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from litereason.compare.pairs import MAIN, PAUSE
from litereason.errors import ConfigError
from litereason.report import curves, figures, glance, latents, numbers, traces, trade_off, viewer
from litereason.report.claims import MARKS
from litereason.report.findings import findings
from litereason.report.read import read_run
from litereason.report.run import LENGTHS, Estimate, Run, again, parsed
from litereason.report.style import COLOURS, styles

__all__ = ["write_report"]

MOST_BYTES = 4_900_000  # of the page


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory as one self-contained HTML file.

    Args:
        run: the run directory; an ordinary run (`run/eval/<arm>/`) or a comparison
            (`run/seed-*/`, with `comparison.json`).
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
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _file("viewer.js")
    # only our own drawings, style sheet and script are trusted; all that was read is escaped
    found = findings(run)
    many = len(trade_off.key_arms(run)) < len(run.arms)
    values: dict[str, Any] = {
        **_tables(run),
        "run": run,
        "again": again,
        "name": run.path.resolve().name,
        "css": Markup(_file("page.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "colours": COLOURS,
        "marks": MARKS,
        "title": glance.title(run),
        "summary": glance.summary(run, found),
        "grid": glance.grid(run, found),
        "findings": found,
        "trade_off": [_trade_off(run, whole) for whole in ([False, True] if many else [True])],
        "majority": run.majority,
        "swatches": {name: Markup(figures.swatch(one)) for name, one in styles(run).items()},
        "training": curves.stages(run),
        "choice": traces.choose(run),
        "seeds": viewer.seeds(run),
        "side_by_side": _side_by_side(run),
        "samples": max((arm.samples for arm in run.arms), default=0),
        "numbers": numbers,
        "settings": _settings(run),
    }
    page = environment.get_template("page.html.j2")
    # the records get what room the rest of the page leaves
    rest = page.render(values | {"records": ""})
    records = viewer.records(run, MOST_BYTES - len(rest.encode()))
    return page.render(values | {"records": records})


def _trade_off(run: Run, whole: bool) -> dict[str, Any]:
    """The plot of all arms, or of those that say most: wide, narrow, and what its legend names."""
    from markupsafe import Markup

    arms = run.arms if whole else trade_off.key_arms(run)
    return {
        "drawn": [Markup(trade_off.plot(run, narrow, whole)) for narrow in (False, True) if arms],
        "arms": arms,
        "all_named": len(trade_off.labelled(arms)) == len(arms),
    }


def _tables(run: Run) -> dict[str, Any]:
    """What the tables show."""
    metrics = ["accuracy", "reward", *run.own_metrics, *LENGTHS]
    if all(_same(arm.figures.get("accuracy"), arm.figures.get("reward")) for arm in run.arms):
        metrics.remove("reward")  # a reward of 0 or 1 is the accuracy again
    listed = [*run.arms, *(arm for arm in run.failed if not arm.evaluations)]
    costs = [
        name for arm in listed for name, value in (arm.cost or {}).items() if value is not None
    ]
    return {
        "metrics": [name for name in metrics if any(arm.figures.get(name) for arm in run.arms)],
        "lengths": LENGTHS,
        "listed": listed,
        "about": [arm for arm in listed if arm.trains or arm.goes_latent or arm.costs],
        "costs": list(dict.fromkeys(costs)),
        "answered": any(arm.answer for arm in listed),
        "answers": latents.answers(run),
        "controls": latents.controls(run),
    }


def _same(one: Estimate | None, other: Estimate | None) -> bool:
    """Whether two figures are of the same values; intervals may end at another bound."""
    if one is None or other is None:
        return one is other
    return (one.mean, one.by_seed) == (other.mean, other.by_seed)


def _side_by_side(run: Run) -> list[str]:
    """The arms that the viewer shows at first."""
    ours = next((arm.name for arm in run.ours()), MAIN[0])
    shown = ("base", "rl", ours, PAUSE[ours])
    names = [name for name in shown if run.arm(name)]
    return names if len(names) > 1 else [arm.name for arm in run.arms if not arm.ablation][:4]


def _settings(run: Run) -> dict[str, str]:
    """What was evaluated; many values of one setting are counted."""
    found = [one for arm in run.arms for one in arm.evaluations]
    asked = parsed(run.config or "").get("settings")
    if not found and isinstance(asked, dict):  # all arms failed
        told = {"Task": asked.get("task"), "Model": asked.get("model"), "Base": asked.get("base")}
        return {name: str(value) for name, value in told.items() if value}
    shown = {
        "Task": [one.task for one in found],
        "Split": [one.split for one in found],
        "Model": [one.model for one in found],
        "Items": [numbers.number(one.items, 0) for one in found],
        "Samples an item": [numbers.number(one.samples, 0) for one in found],
    }
    told = {}
    base = run.arm("base")
    for name, values in shown.items():
        kinds = list(dict.fromkeys(values))
        # each arm's own model stands beside its command
        if name == "Model" and base and len(kinds) > 1:
            told["Base model"] = base.evaluations[0].model
            continue
        told[name] = f"{len(kinds)} different ones" if len(kinds) > 2 else ", ".join(kinds)
    return {**told, "Seeds" if len(run.seeds) > 1 else "Seed": ", ".join(map(str, run.seeds))}


def _file(name: str) -> str:
    return resources.files("litereason.report").joinpath(name).read_text(encoding="utf-8")
