"""What the training stages share: progress, a metrics file, and checkpoints that can be trusted."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from litereason import files
from litereason.console import progress, say

# Names that reports use, by the name the trainers log; other figures keep theirs.
METRICS = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "no_signal",
    "entropy": "entropy",
    "completions/mean_length": "discrete_tokens",
    "latent/total_tokens": "total_tokens",
    "latent/steps": "latent_steps",
    "latent/trigger_rate": "trigger_rate",
    "latent/thoughts": "thoughts",
    "latent/steps_per_thought": "steps_per_thought",
    "latent/drift": "latent_drift",
    "kl": "kl",
    "unscorable": "unscorable",
    "non_finite_steps": "non_finite_steps",
    "latent/refresh_loss_before": "refresh_loss_before",
    "latent/refresh_loss_after": "refresh_loss_after",
    "latent/refresh_rows": "refresh_rows",
    "latent/refresh_positions": "refresh_positions",
    "latent/refresh_slots": "refresh_slots",
    "latent/refresh_skipped": "refresh_skipped",
    "latent/generated_tokens": "generated_tokens",
    "latent/out_of_range": "latents_out_of_range",
}


class MetricsFile(TrainerCallback):
    """One JSON line a logging step in `path`; on resume, lines after the checkpoint are dropped.

    `seconds` are those of all processes that led to a line, but for what was lost in a kill. `before` are
    the steps of trainers that wrote to the same file earlier.
    """

    def __init__(self, path: Path, before: int = 0) -> None:
        self.path, self.before = path, before
        self.start = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        kept, before = [], 0.0
        if self.path.exists():
            for line in self.path.read_text().split("\n"):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if row["step"] <= self.before + state.global_step:
                    kept.append(line + "\n")
                    before = row["seconds"]
        self.start -= before
        files.write_text(self.path, "".join(kept))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, (int, float))}
        numbers.pop(
            "step_time", None
        )  # `seconds` says it, and a resumed run's file is the same but for it
        row = {METRICS.get(k, k): float(v) for k, v in numbers.items() if math.isfinite(v)}
        if {*row} & {*METRICS.values()} and state.is_world_process_zero:
            row = {"step": self.before + state.global_step, **row, "epoch": state.epoch}
            row["seconds"] = round(time.perf_counter() - self.start, 2)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


LINES = 20  # lines with all figures of RL, over a run


class RichProgress(TrainerCallback):
    """A bar over optimiser steps with the newest figures beside it, and now and then a line with all."""

    def __init__(self, title: str, latent: bool) -> None:
        self.title, self.latent = title, latent
        self.said = 0  # the step of the last line
        self.bar = progress()
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.task = self.bar.add_task(
            self.title, total=state.max_steps, completed=state.global_step, note=""
        )
        if state.is_world_process_zero:
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        shown = {METRICS[k]: v for k, v in (logs or {}).items() if k in METRICS and v is not None}
        short = {"reward": "reward", "discrete_tokens": "tokens", "trigger_rate": "thoughts"}
        short = short if "discrete_tokens" in shown else {"loss": "loss"}
        note = " ".join(f"{text} {float(shown[k]):.3g}" for k, text in short.items() if k in shown)
        if note:
            self.bar.update(self.task, note=note)
        due = state.global_step - self.said >= state.max_steps / LINES
        if state.is_world_process_zero and "discrete_tokens" in shown and due:
            self.said = state.global_step
            say(f"{self.title}, step {state.global_step}: {rl_line(shown, self.latent)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()


def rl_line(figures: dict[str, Any], latent: bool) -> str:
    """The figures of an RL step in words; names as in `METRICS`, those that have no value left out."""
    words = {
        "reward": "reward {:.3g}",
        "reward_std": "± {:.3g}",
        "no_signal": "{:.0%} of groups without signal",
        "unscorable": "{:.0%} unscorable",
        "discrete_tokens": "{:.1f} discrete tokens",
        "trigger_rate": "thoughts in {:.0%}",
        "thoughts": "{:.1f} thoughts a completion",
        "steps_per_thought": "{:.1f} steps a thought",
        "entropy": "entropy {:.3f}",
        "non_finite_steps": "{:.0f} steps skipped, not finite",
    }
    if not latent:
        words = {k: v for k, v in words.items() if "thought" not in v}
    silent = [k for k in ("unscorable", "non_finite_steps") if not figures.get(k)]
    told = [v.format(figures[k]) for k, v in words.items() if k in figures and k not in silent]
    return ", ".join(told).replace(", ±", " ±")


def use_our_callbacks(trainer: Any, title: str, metrics: Path, before: int = 0) -> None:
    """Replace the default printing by a rich bar and the metrics file (`before` as for `MetricsFile`)."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(RichProgress(title, getattr(trainer, "thinks", False)))
    trainer.add_callback(MetricsFile(metrics, before))


def whole_checkpoint(directory: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    found = sorted(directory.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text())  # the trainer writes it last
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(path)
        else:
            return str(path)
    return None
