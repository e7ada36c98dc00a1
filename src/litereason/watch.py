"""What looks after an RL run: the refresh at the end of epochs, warnings of collapse, what a resume needs.

Callbacks of Hugging Face's Trainer; they hold no weights.
"""

import collections
import math
import random
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl.trainer.utils import RepeatSampler

from litereason.console import say
from litereason.errors import DataError
from litereason.model import backbone
from litereason.refresh import refresh_projector

WINDOW = 8  # logging steps over which a collapse must last
HINTS = {
    "thoughts_gone": (
        "the policy has all but stopped thinking in latent steps (trigger rate {trigger_rate:.1%}). "
        "Under a reward for accuracy alone that is common: try length_penalty=correct_only, more sentences "
        "replaced in the SFT, or a lower learning rate"
    ),
    "thoughts_everywhere": (
        "every completion holds a thought (trigger rate {trigger_rate:.1%}), so that RL cannot tell "
        "whether thoughts help. Judge the trained pause and another row's latents (`litereason eval "
        "--ablation`), and replace fewer sentences in the SFT"
    ),
    "entropy_gone": (
        "the policy's entropy is {entropy:.4f} nats: its completions hardly differ any more. Lower the "
        "learning rate, raise the temperature, or add a KL term (beta)"
    ),
    "no_signal": (
        "no group's rewards differ ({no_signal:.0%} without signal), so nothing is learned. Take other or "
        "easier prompts, more completions a prompt (num_generations), or a warm-up (litereason sft)"
    ),
}


class CollapseWatch(TrainerCallback):
    """Calls out, once each, that thoughts, entropy or the reward's signal have gone.

    Args:
        latent: whether the run has latent steps.
    """

    def __init__(self, latent: bool) -> None:
        self.latent = latent
        self.recent: collections.deque[dict[str, float]] = collections.deque(maxlen=WINDOW)
        self.said: set[str] = set()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not logs or "reward" not in logs:
            return
        names = {
            "trigger_rate": "latent/trigger_rate",
            "entropy": "entropy",
            "no_signal": "frac_reward_zero_std",
        }
        row = {k: float(logs[v]) for k, v in names.items() if logs.get(v) is not None}
        if logs.get("unscorable") == 1:
            row["no_signal"] = 1.0  # TRL's share counts what cannot be scored as signal
        self.recent.append(row)
        for name in collapsed(list(self.recent), self.latent) - self.said:
            self.said.add(name)
            if state.is_world_process_zero:
                mean = {k: sum(r[k] for r in self.recent) / WINDOW for k in self.recent[0]}
                say(f"step {state.global_step}: {HINTS[name].format(**mean)}")


def collapsed(recent: list[dict[str, float]], latent: bool) -> set[str]:
    """Names of `HINTS` that hold in all of `recent`, newest last; none before it is `WINDOW` long."""
    if len(recent) < WINDOW:
        return set()

    def all_of(name: str, test: Any) -> bool:
        return all(name in row and test(row[name]) for row in recent)

    found = set()
    if latent and all_of("trigger_rate", lambda x: x <= 0.02):
        found.add("thoughts_gone")
    if latent and all_of("trigger_rate", lambda x: x >= 0.995):
        found.add("thoughts_everywhere")
    if all_of("entropy", lambda x: x <= 0.005):
        found.add("entropy_gone")
    if all_of("no_signal", lambda x: x == 1):
        found.add("no_signal")
    return found


class ProjectorRefresh(TrainerCallback):
    """At the end of every `refresh_every`-th epoch: stage 2 on some of its rewarded trajectories.

    It comes before the epoch's last checkpoint is written, so that a killed run does not lose it.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer, epoch = self.trainer, round(state.epoch)
        if abs(state.epoch - epoch) > 1e-6 or epoch % args.refresh_every:
            return
        rng = random.Random(args.seed * 7919 + state.global_step)
        count = math.ceil(args.refresh_share * len(trainer.rewarded))
        chosen = rng.sample(trainer.rewarded, count)
        trainer.rewarded = []
        metrics = trainer._metrics["train"]
        try:
            done = refresh_projector(
                trainer.accelerator.unwrap_model(trainer.model),
                trainer.processing_class,
                [(trainer.prompt_ids[index], text) for index, text in chosen],
                args.refresh_shares,
                args.refresh_learning_rate,
                args.seed,
                args.max_latent_steps,
            )
        except DataError as error:  # nothing rewarded, or not one sentence to replace: collapse
            if state.is_world_process_zero:
                say(f"step {state.global_step}: the projector is not refreshed: {error}")
            metrics["latent/refresh_skipped"].append(1.0)
            return
        metrics["latent/refresh_loss_before"].append(done.before)
        metrics["latent/refresh_loss_after"].append(done.after)
        metrics["latent/refresh_rows"].append(float(done.rows))
        for kind in ("positions", "slots"):  # so far, whatever the logging interval
            trainer.refreshed[kind] += getattr(done, kind)
            metrics[f"latent/refresh_{kind}"] = [float(trainer.refreshed[kind])]
        trainer.skipped_steps += done.skipped
        if state.is_world_process_zero:
            say(
                f"step {state.global_step}: the projector is refreshed on {done.rows} rows: loss "
                f"{done.before:.3f} to {done.after:.3f} nats a token"
            )


class RunState(TrainerCallback, ExportableState):
    """What a resumed run goes on from beside weights and random numbers, kept in `trainer_state.json`."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def _spine(self) -> Any:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return backbone(model) if self.trainer.latent else None

    def state(self) -> dict[str, Any]:
        """Called when a checkpoint is written."""
        spine = self._spine()
        return {
            "args": {},
            "attributes": {
                "generated_tokens": self.trainer.generated_tokens,
                "skipped_steps": self.trainer.skipped_steps,
                "rewarded": self.trainer.rewarded,
                "refreshed": self.trainer.refreshed,
                "out_of_range": 0 if spine is None else spine.latents_out_of_range,
            },
        }

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        saved = state.stateful_callbacks.get(type(self).__name__)
        if not state.global_step or not saved:
            return
        values = saved["attributes"]
        self.trainer.generated_tokens = values["generated_tokens"]
        self.trainer.skipped_steps = values["skipped_steps"]
        self.trainer.rewarded = [(index, text) for index, text in values["rewarded"]]
        self.trainer.refreshed = values["refreshed"]
        if spine := self._spine():
            spine.latents_out_of_range = values["out_of_range"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if control.should_save:  # means since the last log are not in a checkpoint: log them first
            control.should_log = True


class EpochSampler(RepeatSampler):
    """TRL's sampler, with an order that depends on seed and epoch only, so that a resumed run keeps it."""

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch by the data loader."""
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) * 1_000_003 + epoch)
