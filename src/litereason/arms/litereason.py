"""LiteReason (arXiv 2512.02240), with and without a length penalty, and its trained control."""

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench
from litereason.arms.rl import PENALTY

TAG = "the policy samples a tag with a budget"


class LiteReason(Arm):
    name, title = "litereason", "LiteReason"
    trains = (
        "the projector, on traces with sentences replaced by thoughts; then the policy, by GRPO"
    )
    goes_latent = TAG
    costs = "words, and a latent step for each position of a thought"
    needs = ("collect",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.sft(mode="latent"), mode="latent")
        bench.evaluate(model, self.title, mode="latent")


class LiteReasonShort(Arm):
    name, title = "litereason-lp", "LiteReason + length penalty"
    trains = "as LiteReason, with a penalty on long right answers"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("litereason",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.trained("sft", "litereason"), mode="latent", **PENALTY)
        bench.evaluate(model, self.title, mode="latent")


class Pause(Arm):
    name, title = "pause", "LiteReason, trained pause"
    trains = "as LiteReason, with one embedding for all latent steps in place of the projector"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("collect",)

    def run(self, bench: Bench) -> None:
        start = bench.sft(mode="latent", projector="pause")
        bench.evaluate(bench.rl(start, mode="latent"), self.title, mode="latent")
