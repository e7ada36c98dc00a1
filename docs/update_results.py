"""Rewrite the tables in README.md, docs/results.md and research.md from the files of runs, none by hand.

    python docs/update_results.py

A block between `<!-- begin KIND PATH -->` and `<!-- end -->` is made anew if PATH is there, and left as
it is if not. Kinds: comparison, headline, picture, hypotheses and arms RUN_DIR, bench RESULTS.jsonl,
controls and eval SUMMARY.json, plans EVAL_DIR.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from litereason import report, stats
from litereason.files import read_json, read_jsonl, write_text
from litereason.report import glance, trade_off
from litereason.report.claims import MARKS
from litereason.report.findings import findings
from litereason.report.read import read_run
from litereason.report.style import COLOURS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- begin (\w+) (\S+) -->\n).*?(<!-- end -->)", re.S)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def interval(value: dict[str, float] | None, scale: float = 1, digits: int = 1) -> str:
    """`mean [low, high]`."""
    if value is None:
        return "-"
    mean, low, high = (f"{scale * value[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def arm_row(figures: dict[str, Any]) -> list[str]:
    """One evaluated arm as a table row."""
    return [
        figures["title"],
        interval(figures["accuracy"], 100),
        interval(figures["discrete_tokens"]),
        interval(figures["latent_steps"], digits=2),
        f"{100 * figures['trigger_rate']['mean']:.0f} %",
        f"{figures['items']} x {figures['samples']}",
    ]


ARMS = [
    "arm",
    "accuracy % [95 %]",
    "discrete tokens",
    "latent steps",
    "thoughts in",
    "items x samples",
]


def comparison(run: Path) -> str:
    """Arms over all seeds with what they save and cost, and what held."""
    told = read_json(run / "comparison.json")
    rows = []
    for arm in told["arms"].values():
        if (figures := arm["figures"]) is None:
            rows.append([arm["title"], f"failed: {arm['reason']}", *[""] * 7])
            continue
        saved = [(arm["saved"] or {}).get(other) for other in ("base", "rl")]
        rows.append(
            [
                arm["title"],
                interval(figures["accuracy"], 100),
                interval(figures["discrete_tokens"]),
                interval(figures["latent_steps"], digits=2),
                interval(figures.get("characters"), digits=0),
                f"{100 * figures['trigger_rate']['mean']:.0f} %",
                " / ".join(interval(one and one["total"], 100, 0) for one in saved),
                interval(arm["recovered"], 100, 0),
                flops(arm, told["arms"].get("rl") or {}),
            ]
        )
    header = [*ARMS[:4], "characters", ARMS[4], "fewer positions than base / RL, %"]
    header += ["of RL's gain, %", FLOPS]
    found = verdicts(read_run(run))
    size = f"{told['items']} items x {told['samples']}, seeds {told['seeds']}"
    size += (
        "; all arms start from one base model. Characters of all that is written, tags in full. FLOPs: "
        "training with evaluation, and of one answer with its prompt."
    )
    return f"{table(header, rows)}\n{size}\n\n{found}\n"


HEADLINE = ("base", "soft-thinking-one", "rl", "rl-longer", "litereason", "distil", "distil-pause")
HEADLINE += ("distil-pause-told", "brief-rl", "brief-words", "brief", "brief-pause")
HEADLINE += ("brief-pause-told", "soft-thinking")
FLOPS = "FLOPs of RL: in all / an answer"


def flops(arm: dict[str, Any], rl: dict[str, Any]) -> str:
    """What an arm and one of its answers cost, as multiples of RL's."""

    def share(kind: str, digits: int) -> str:
        ours, unit = ((one.get(kind) or {}).get("flops") for one in (arm, rl))
        return f"{ours / unit:.{digits}f}" if ours is not None and unit else "-"

    return f"{share('cost', 1)} / {share('answer', 2)}"


def headline(run: Path) -> str:
    """The few arms that say most, in a few words."""
    told = read_json(run / "comparison.json")
    rows = []
    for name in HEADLINE:
        if not (figures := (told["arms"].get(name) or {}).get("figures")):
            continue
        arm, saved = told["arms"][name], (told["arms"][name]["saved"] or {}).get("rl")
        rows.append(
            [
                arm["title"],
                interval(figures["accuracy"], 100),
                f"{figures['discrete_tokens']['mean']:.1f}",
                f"{figures['total_tokens']['mean']:.1f}",
                "-" if name == "rl" else interval(saved and saved["total"], 100, 0),
                flops(arm, told["arms"].get("rl") or {}),
            ]
        )
    header = ["", "right, % [95 %]", "written tokens", "with latent steps", "fewer than RL, %"]
    header += [FLOPS]
    size = f"{told['items']} stories, seeds {told['seeds']}, one base model."
    return f"{table(header, rows)}\n{size}\n"


def marked(verdict: str) -> str:
    """A verdict with its mark."""
    return f"{MARKS.get(verdict, '')}{verdict}"


def verdicts(run: Any) -> str:
    """What held: of our arms in one table, then the rest; the sentences with their figures on request."""
    found = findings(run)
    lines = ""
    if asked := glance.grid(run, found):
        ours = [arm for arm in asked.arms if arm.name in asked.verdicts]
        rows = [
            [claim, *(marked(asked.verdicts[arm.name].get(claim, "")) for arm in ours)]
            for claim in asked.claims
        ]
        lines = table(["", *(arm.title for arm in ours)], rows) + "\n"
    others = [[f"**{f.verdict}**", f.claim] for f in found if not f.short]
    lines += table(["", "of the whole"], others) if others else ""
    told = "".join(f"- **{f.verdict}** {f.claim}: {f.whole}\n" for f in found)
    return f"{lines}\n<details><summary>With their figures</summary>\n\n{told}\n</details>\n"


def hypotheses(run: Path) -> str:
    """Every arm of a comparison beside `distil`, with the paired difference in accuracy."""
    told, main = read_json(run / "comparison.json"), "distil"
    pairs = {}
    for pair in told["pairs"]:
        if pair["metric"] == "accuracy" and main in (pair["a"], pair["b"]):
            other, sign = (pair["b"], 1) if pair["a"] == main else (pair["a"], -1)
            pairs[other] = (pair, sign)
    rows = []
    for name, arm in told["arms"].items():
        if (figures := arm["figures"]) is None:
            rows.append([f"`{name}`", f"failed: {arm['reason']}", *[""] * 5])
            continue
        less = ["", ""]
        if name in pairs:
            pair, sign = pairs[name]
            low, high = sorted((-sign * pair["low"], -sign * pair["high"]))
            mean = {"mean": -sign * pair["difference"], "low": low, "high": high}
            less = [interval(mean, 100), f"{pair['p_corrected']:.4f}"]
        each = ", ".join(f"{100 * value:.1f}" for value in figures["accuracy"]["by_seed"])
        rows.append(
            [
                f"`{name}`: {arm['title']}",
                interval(figures["accuracy"], 100),
                each,
                interval(figures["discrete_tokens"]),
                interval(figures["latent_steps"]),
                *less,
            ]
        )
    header = [*ARMS[:2], "seeds", *ARMS[2:4], f"minus `{main}`, points", "corrected p"]
    size = (
        f"{told['split']} split, {told['items']} items x {told['samples']}, seeds {told['seeds']}"
    )
    return f"{table(header, rows)}\n{size}.\n"


def bench(path: Path) -> str:
    """Benchmarks as ratios."""
    rows = []
    for row in read_jsonl(path):
        other, value = next(iter(row["other"].items()))
        holds = "yes" if row["holds"] else "**no**"
        figures = [
            f"{row['ours']:.3g} {row['unit']}",
            f"{other}: {value:.3g}",
            f"{row['ratio']:.3f}",
        ]
        rows.append([row["benchmark"], *figures, row["goal"], holds, str(row["n"])])
    return table(["benchmark", "ours", "peer or limit", "ratio", "goal", "holds", "n"], rows)


def controls(path: Path) -> str:
    """Held-out loss after tags with the trained projector's latents and with each control."""
    summary = read_json(path)
    held = summary["held_out"]
    rows = [["trained projector", f"{held['latents']:.3f}", "", "", str(held["rows"]), "0"]]
    for name in ("init", "zeros", "noise", "other_row"):
        one = held[name]
        figures = ["-", "-", "-", "0"]
        if "loss" in one:
            difference = f"{one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
            figures = [f"{one['loss']:.3f}", difference, f"{one['p']:.4f}", str(one["items"])]
        rows.append([name, *figures, str(one["not_finite"])])
    header = [
        "latents",
        "nats a token",
        "minus trained, mean of rows [95 %]",
        "p",
        "rows",
        "not finite",
    ]
    trained = (
        f"Trained on {summary['rows']} rows; {summary['skipped_steps']} steps were not finite."
    )
    return f"{table(header, rows)}\n{trained}\n"


def evaluation(path: Path) -> str:
    """One evaluated arm with its command."""
    figures = read_json(path)
    return (
        f"{table(ARMS, [arm_row(figures)])}\n`{figures['command']}`, {figures['seconds']:.0f} s.\n"
    )


def plans(directory: Path) -> str:
    """How the plans' rewards are distributed, and whether the own plan beats another book's."""
    summary, records = (
        read_json(directory / "summary.json"),
        read_jsonl(directory / "records.jsonl"),
    )
    rows = []
    for name in ("improvement", "other_chapter", "contrastive", "vr_cli", "has_plan"):
        values = [r["metrics"][name] for r in records if r["metrics"].get(name) is not None]
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        above = 100 * float(np.mean(np.array(values) > 0))
        rows.append(
            [
                name.replace("_", " "),
                interval(summary["metrics"][name], digits=2),
                f"{low:.2f} / {middle:.2f} / {high:.2f}",
                f"{above:.0f} %",
                str(len(values)),
            ]
        )
    header = ["figure", "mean over items [95 %]", "10 / 50 / 90 % of plans", "above 0", "plans"]
    text = table(header, rows)
    if (path := directory / "plan_check.json").exists():
        check = read_json(path)
        text += (
            f"\nAfter the item's own plan the true chapter's improvement is {check['own']:.2f} per cent, "
            f"after one written for another book {check['other']:.2f}: a difference of "
            f"{check['difference']:+.2f} [{check['low']:+.2f}, {check['high']:+.2f}], "
            f"p = {check['p']:.4f}, n = {check['items']} pairs; the own plan wins in "
            f"{100 * check['wins']:.0f} %.\n"
        )
    return (
        f"{text}\n`{summary['command']}`, {summary['items']} pairs, {summary['seconds']:.0f} s.\n"
    )


SHOWN = 10  # first and last steps of RL that a row is the mean of


def arms(run: Path) -> str:
    """Evaluated arms of a run with what held, and what RL did in each: steps, figures, wall time."""
    read = read_run(run)
    rows = [arm_row(read_json(run / "eval" / arm.name / "summary.json")) for arm in read.arms]
    found = verdicts(read)
    trained = []
    for path in sorted((run / "rl").glob("*/metrics.jsonl")):
        steps = [row for row in read_jsonl(path) if "reward" in row]
        parts = [steps[:SHOWN], steps[-SHOWN:]]
        keys = ("reward", "discrete_tokens", "trigger_rate")
        means = [
            " → ".join(interval(stats.interval(np.array([row[key] for row in part])), digits=2)
                       for part in parts)
            for key in keys
        ]  # fmt: skip
        minutes = f"{steps[-1]['seconds'] / 60:.1f}"
        generated = f"{steps[-1]['generated_tokens']:,.0f}"
        trained.append([path.parent.name, str(steps[-1]["step"]), *means, generated, minutes])
    header = ["RL arm", "steps", "reward", "discrete tokens", "trigger rate"]
    header += ["tokens generated in all", "minutes"]
    note = f"First {SHOWN} steps → last {SHOWN} steps, with 95 % bootstraps over steps."
    return f"{table(ARMS, rows)}\n{found}\n{table(header, trained)}\n{note}\n"


def picture(run: Path) -> str:
    """The trade-off plot as a file of its own, light and dark, and a link to it."""
    css = (Path(report.__file__).parent / "page.css").read_text(encoding="utf-8")
    css = css[: css.index("* {")]
    arms = [
        "".join(f"--arm-{i}: {pair[dark]}; " for i, pair in enumerate(COLOURS)) for dark in (0, 1)
    ]
    css += (
        f":root {{ {arms[0]} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {arms[1]} }} }}\n"
    )
    css += "svg { background: var(--page); font-family: system-ui, sans-serif; }"
    drawn = trade_off.plot(read_run(run))
    head, rest = drawn.split(">", 1)
    opening = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    name = f"{run.name}.svg"
    write_text(ROOT / "docs" / name, f"{opening}>\n<style>\n{css}\n</style>{rest}\n")
    return f"![Accuracy against tokens a sample, latent steps counted]({name})\n"


KINDS: dict[str, Callable[[Path], str]] = {
    "arms": arms,
    "comparison": comparison,
    "headline": headline,
    "hypotheses": hypotheses,
    "bench": bench,
    "controls": controls,
    "eval": evaluation,
    "picture": picture,
    "plans": plans,
}


# What a directory must hold for a block of its kind.
READY = dict.fromkeys(
    ("arms", "comparison", "headline", "hypotheses", "picture"), "comparison.json"
)
READY["plans"] = "summary.json"


def main() -> None:
    def made(match: re.Match[str]) -> str:
        begin, kind, path, end = match.groups()
        ready = ROOT / path / READY.get(kind, "")
        if not ready.exists():
            print(f"left as it is: {path} is not there")
            return match[0]
        return f"{begin}\n{KINDS[kind](ROOT / path)}\n{end}"

    for name in ("README.md", "docs/results.md", "docs/research.md"):
        target = ROOT / name
        write_text(target, BLOCK.sub(made, target.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
