"""What the training stages share: progress, a metrics file, and checkpoints that can be trusted."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from litereason import files
from litereason.console import progress

# Names that reports use, by the name the trainers log.
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
    "latent/refresh_skipped": "refresh_skipped",
    "latent/generated_tokens": "generated_tokens",
    "latent/out_of_range": "latents_out_of_range",
}


class MetricsFile(TrainerCallback):
    """One JSON line a logging step in `path`; on resume, lines after the checkpoint are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        kept = []
        if self.path.exists():
            for line in self.path.read_text().split("\n"):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if row["step"] <= state.global_step:
                    kept.append(line + "\n")
        files.write_text(self.path, "".join(kept))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        found = {METRICS[k]: v for k, v in (logs or {}).items() if k in METRICS and v is not None}
        row = {k: float(v) for k, v in found.items() if math.isfinite(v)}
        if row and state.is_world_process_zero:
            row = {"step": state.global_step, "epoch": state.epoch, **row}
            row["seconds"] = round(time.perf_counter() - self.start, 2)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


class RichProgress(TrainerCallback):
    """A bar over optimiser steps with the newest figures beside it."""

    def __init__(self, title: str) -> None:
        self.title = title
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
        shown = {METRICS[k]: v for k, v in (logs or {}).items() if k in METRICS}
        short = {"reward": "reward", "discrete_tokens": "tokens", "trigger_rate": "thoughts"}
        short = short if "reward" in shown else {"loss": "loss"}
        note = " ".join(f"{text} {float(shown[k]):.3g}" for k, text in short.items() if k in shown)
        if note:
            self.bar.update(self.task, note=note)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()


def use_our_callbacks(trainer: Any, title: str, metrics: Path) -> None:
    """Replace the default printing by a rich bar and the metrics file."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(RichProgress(title))
    trainer.add_callback(MetricsFile(metrics))


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
