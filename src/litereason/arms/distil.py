"""LiteReason with distilled thoughts, after RL or before it (docs/research.md)."""

from typing import Any, ClassVar

from litereason.arms.ablated import Ablated
from litereason.arms.arm import Arm
from litereason.arms.bench import Bench
from litereason.arms.litereason import TAG, LiteReason
from litereason.arms.rl import PENALTY, PLAIN

# All sentences, or half of them; 0.6 latent steps a word (docs/research.md).
THOUGHTS: dict[str, Any] = {"mode": "latent", "train": "all", "loss_after": "prompt"}
THOUGHTS |= {"shares": [0.5, 1.0], "ratio": 0.6, "copies": 1}
PAUSE: dict[str, Any] = {"projector": "pause"}
PAUSE_TOLD: dict[str, Any] = {"projector": "pause-told", "method": "distil"}


class Distil(Arm):
    name, title = "distil", "LiteReason, distilled"
    trains = (
        "RL's policy and a projector, on its own right traces, each latent step toward the words that it "
        "stands for"
    )
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("rl", "collect-own")

    def run(self, bench: Bench) -> None:
        model = bench.sft(**bench.reasoner(), **THOUGHTS, method="distil")
        bench.evaluate(model, self.title, mode="latent")


class DistilShort(Arm):
    name, title = "distil-lp", "LiteReason, distilled + RL with length penalty"
    trains = f"{Distil.trains}; then the policy, by GRPO with a penalty on long right answers"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("distil",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.trained("sft", "distil"), mode="latent", **PENALTY)
        bench.evaluate(model, self.title, mode="latent")


class DistilPause(Arm):
    name, title = "distil-pause", "LiteReason, distilled: trained pause"
    trains = (
        "the same on the same traces, with one embedding for all latent steps: cross-entropy alone"
    )
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("distil",)
    pause = PAUSE

    def run(self, bench: Bench) -> None:
        model = bench.sft(**bench.reasoner_of("distil"), **THOUGHTS, **self.pause)
        bench.evaluate(model, self.title, mode="latent")


class DistilPauseTold(DistilPause):
    """Is it the latents, or what they are told? Here the same is told, and no latent is handed on."""

    name, title = "distil-pause-told", "LiteReason, distilled: pause told the same"
    trains = (
        "the same on the same traces, with one embedding for all latent steps; the state before each "
        "step is taught the words of the step"
    )
    pause = PAUSE_TOLD


class DistilWords(Arm):
    name, title = "distil-words", "LiteReason, distilled: in words"
    trains = "RL's policy, on the traces of `distil`, in words"
    costs = "its reasoning in words"
    needs = ("distil",)

    def run(self, bench: Bench) -> None:
        model = bench.sft(**bench.reasoner_of("distil"), **PLAIN)
        bench.evaluate(model, self.title, mode="plain")


class DistilOtherRow(Ablated):
    name, title = "distil-other-row", "LiteReason, distilled: another row's latents"
    needs = ("distil",)
    stage = "sft"
    settings: ClassVar[dict[str, Any]] = {"ablation": "other_row"}


class DistilRl(Arm):
    """LiteReason's own order: thoughts first, then RL."""

    name, title = "distil-rl", "LiteReason, distilled, then RL"
    trains = (
        "the base and a projector, on the base's right traces, each latent step toward the words that it "
        "stands for; then the policy, by GRPO"
    )
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("collect",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.sft(**THOUGHTS, method="distil"), mode="latent")
        bench.evaluate(model, self.title, mode="latent")


class DistilRlPause(Arm):
    name, title = "distil-rl-pause", "LiteReason, distilled, then RL: trained pause"
    trains = "the same with one embedding for all latent steps, by cross-entropy; then the policy, by GRPO"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("collect",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.sft(**THOUGHTS, **PAUSE), mode="latent")
        bench.evaluate(model, self.title, mode="latent")


class DistilRlOtherRow(Ablated):
    name, title = "distil-rl-other-row", "LiteReason, distilled, then RL: another row's latents"
    needs = ("distil-rl",)
    settings: ClassVar[dict[str, Any]] = {"ablation": "other_row"}
