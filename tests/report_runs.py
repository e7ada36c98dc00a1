"""Run directories and comparisons for the report's tests, every figure in them set by hand."""

import json
import random
from pathlib import Path

FIGURES = ("accuracy", "reward", "discrete_tokens", "total_tokens", "latent_steps", "trigger_rate")
# What comparison.json says of an arm of which nothing special is known.
ABOUT: dict = {
    "trains": None,
    "goes_latent": None,
    "costs": None,
    "ablation": None,
    "status": "done",
    "reason": None,
    "saved": {"base": None, "rl": None},
    "recovered": None,
    "front": None,
    "cost": None,
    "answer": None,
}
# name: (title, accuracy, discrete tokens, latent steps, trigger rate, ablation)
ARMS = {
    "base": ("Base", 0.55, 20.0, 0.0, 0.0, None),
    "direct": ("Direct answer", 0.50, 2.0, 0.0, 0.0, None),
    "direct-rl": ("Direct answer, RL", 0.53, 2.0, 0.0, 0.0, None),
    "rl": ("RL", 0.96, 60.0, 0.0, 0.0, None),
    "litereason": ("LiteReason", 0.93, 30.0, 6.0, 0.90, None),
    "pause": ("Trained pause", 0.90, 30.0, 6.0, 0.90, None),
    "litereason-other-row": ("Other row's latents", 0.84, 32.0, 6.0, 0.90, "other_row"),
    "litereason-zeros": ("Zeroed latents", 0.80, 33.0, 6.0, 0.90, "zeros"),
    "litereason-skip": ("Latents skipped", 0.82, 31.0, 0.0, 0.90, "skip"),
}
# (a, b, metric): (difference, low, high, p)
PAIRS = {
    ("rl", "base", "accuracy"): (0.41, 0.352, 0.451, 0.0002),
    ("litereason", "rl", "accuracy"): (-0.03, -0.045, -0.012, 0.004),
    ("litereason", "pause", "accuracy"): (0.03, -0.004, 0.061, 0.081),
    ("litereason", "litereason-other-row", "accuracy"): (0.09, 0.062, 0.121, 0.0002),
    ("direct-rl", "litereason", "accuracy"): (-0.40, -0.44, -0.35, 0.0002),
    ("litereason", "litereason-zeros", "accuracy"): (0.13, 0.10, 0.16, 0.0002),
    ("litereason", "litereason-skip", "accuracy"): (0.11, 0.08, 0.14, 0.0002),
    ("litereason", "rl", "total_tokens"): (-24.0, -26.0, -22.0, 0.0002),
}
STORY = "#1 Ada has a lamp. #2 Ben has a <script>alert('story')</script> & a kite.\n#3 They trade."


def around(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def make_run(run: Path, items: int = 40, arms: tuple[str, ...] = tuple(ARMS)) -> Path:
    """A run directory with every file; its figures are those of `ARMS`, not of its records."""
    chance = random.Random(0)
    for name in arms:
        title, accuracy, discrete, latent, trigger, ablation = ARMS[name]
        folder = run / "eval" / name
        folder.mkdir(parents=True)
        summary = {
            "arm": name,
            "title": title,
            "task": "stories",
            "split": "test",
            "model": f"runs/demo/rl/{name}",
            "items": items,
            "samples": 1,
            "seed": 0,
            "accuracy": around(accuracy, 0.03),
            "reward": around(accuracy, 0.03),
            "discrete_tokens": around(discrete, 1.0),
            "total_tokens": around(discrete + latent, 1.0),
            "latent_steps": around(latent, 0.0),
            "trigger_rate": around(trigger, 0.02 if trigger else 0.0),
            "steps_per_thought": 3.0 if latent else None,
            "truncated": 0.01,
            "seconds": 12.3,
            "command": f"litereason eval --run_dir {run} --arm {name}",
            "ablation": ablation,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=1))
        rows = [record(name, index, chance) for index in range(items)]
        (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_logs(run)
    compare(run)
    return run


def compare(run: Path, pairs: dict | None = None) -> None:
    """Write `comparison.json` from the summaries and `pairs`."""
    homes = sorted(run.glob("seed-*")) or [run]
    seeds = list(range(len(homes)))
    found = {}
    for path in sorted(homes[0].glob("eval/*/summary.json")):
        told = json.loads(path.read_text())
        figures = {name: told[name] for name in FIGURES}
        found[path.parent.name] = ABOUT | {
            "title": told["title"],
            "ablation": told["ablation"],
            "seeds": seeds,
            "figures": {
                name: value and value | {"by_seed": [value["mean"]] * len(seeds)}
                for name, value in figures.items()
            },
        }
    keys = ("difference", "low", "high", "p", "p_corrected")
    rows = [
        {"a": a, "b": b, "metric": metric, "items": 40, "seeds": seeds}
        | dict(zip(keys, (*figures, min(1, 2 * figures[3])), strict=True))
        | {"by_seed": [figures[0]] * len(seeds)}
        for (a, b, metric), figures in (PAIRS if pairs is None else pairs).items()
        if {a, b} <= found.keys()
    ]
    data = {"task": "stories", "split": "test", "items": 40, "samples": 1, "seeds": seeds}
    (run / "comparison.json").write_text(json.dumps(data | {"arms": found, "pairs": rows}))


def make_comparison(run: Path, seeds: int = 3, items: int = 12) -> Path:
    """A comparison with every file; `colar` failed under all seeds, `litereason` has a lens."""
    for seed in range(seeds):
        home = make_run(run / f"seed-{seed}", items)
        for name in ("comparison.json", "config.yaml"):
            (home / name).unlink()
        for path in home.glob("eval/*/summary.json"):
            edit(path, seed=seed)
        (home / "arms").mkdir()
        state = {"arm": "litereason", "status": "done", "stages": ["rl/litereason"]}
        (home / "arms/litereason.json").write_text(json.dumps(state))
        for stage in ("rl", "eval"):
            (home / stage / "litereason/config.yaml").write_text(f"stage: {stage} <{seed}>\n")
        add_lens(home / "eval/litereason/records.jsonl", 4)
    (run / "config.yaml").write_text("model: demo\n")
    compare(run)
    data = json.loads((run / "comparison.json").read_text())
    for name, arm in data["arms"].items():
        arm["saved"] = {
            "base": {"discrete": around(-0.5, 0.1), "total": around(-0.8, 0.1)},
            "rl": {"discrete": around(0.5, 0.02), "total": around(0.4, 0.03)},
        }
        arm["recovered"] = around(0.93, 0.05)
        arm["front"] = None if arm["ablation"] else 0.02 if name == "base" else 0.87
        arm |= {"trains": f"What {name} trains.", "goes_latent": "By tags.", "costs": "Two stages."}
        if name == "rl":
            arm["answer"] = {"forward_positions": 115.2, "flops": 104e6}
        arm["cost"] = {"flops": 3.2e12, "training_tokens": 1234567, "seconds": 75.0}
    failed = {"title": "CoLaR", "status": "failed", "reason": "DataError: <none> earned a reward"}
    data["arms"]["colar"] = ABOUT | failed | {"saved": None, "figures": None, "seeds": []}
    (run / "comparison.json").write_text(json.dumps(data))
    return run


def add_lens(path: Path, items: int) -> None:
    """Add what the LM head would say to the latent spans of the first records."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:items]:
        for span in row["spans"]:
            if span[0] == "latent":
                said = [["<b>", 0.125], ["\n", 0.1]]
                span.append([[[f" word{step}", 0.7], *said] for step in range(span[1])])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def record(arm: str, index: int, chance: random.Random) -> dict:
    _, accuracy, discrete, latent, _, _ = ARMS[arm]
    right, label = chance.random() < accuracy, "Yes" if index % 2 else "No"
    answer = label if right else {"Yes": "No", "No": "Yes"}[label]
    spans: list[list] = [["discrete", "Ada has the lamp <b>now</b>. " * round(discrete / 8)]]
    if "litereason" in arm or arm == "pause":
        spans.append(["tag", "<implicit_thought>3</implicit_thought>"])
        if latent:
            spans.append(["latent", 3])
        spans += [["discrete", " So #7 fits. "], ["tag", "<implicit_thought>3</implicit_thought>"]]
        if latent:
            spans.append(["latent", 3])
    spans.append(["discrete", f"\n\\boxed{{{answer}}}"])
    return {
        "item": f"test-{index}",
        "sample": 0,
        "label": label,
        "prompt": f"{STORY}\n#4 event {index}.\nIs there an error?",
        "spans": spans,
        "reward": float(right),
        "correct": right,
        "discrete_tokens": round(discrete),
        "latent_steps": round(latent),
        "thoughts": 2 if latent else 0,
        "truncated": False,
    }


def make_logs(run: Path) -> None:
    chance = random.Random(1)
    for arm, end in (("direct-rl", 0.53), ("rl", 0.96), ("litereason", 0.93)):
        folder = run / "rl" / arm
        folder.mkdir(parents=True)
        rows = []
        for step in range(150):
            share = 1 - 0.97**step
            row = {"step": step, "learning_rate": 1e-3, "entropy": 0.4}
            row["reward"] = 0.55 + (end - 0.55) * share + chance.gauss(0, 0.03)
            row["discrete_tokens"] = 20 + (ARMS[arm][2] - 20) * share + chance.gauss(0, 1)
            if arm == "litereason":
                row["trigger_rate"] = 1.0 if step < 75 else 0.9
            rows.append(json.dumps(row) + "\n")
        (folder / "metrics.jsonl").write_text("".join(rows))
    folder = run / "sft" / "litereason"
    folder.mkdir(parents=True)
    losses = [{"step": step, "loss": 2 * 0.98**step + 0.3} for step in range(100)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses))
    (run / "config.yaml").write_text("model: demo\n# <b>not bold</b>\nlearning_rate: 5.0e-7\n")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
