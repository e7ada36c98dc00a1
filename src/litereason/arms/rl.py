"""Training without latent steps: SFT on right traces, RL, RL for the answer at once."""

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench

# SFT on whole traces, in words
PLAIN = {"mode": "plain", "train": "all", "loss_after": "prompt", "shares": [0.0]}
PENALTY = {"length_penalty": "correct_only"}  # naive penalties are reported to hurt (2602.02099)


class Sft(Arm):
    name, title = "sft", "SFT on right traces"
    trains = "the policy, on its own right traces"
    costs = "its reasoning in words"
    needs = ("collect",)

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.sft(**PLAIN), self.title, mode="plain")


class Rl(Arm):
    name, title = "rl", "RL, no latent steps"
    trains = "the policy, by GRPO on the task's reward"
    costs = "its reasoning in words"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.rl(bench.model, mode="plain"), self.title, mode="plain")


class RlShort(Arm):
    name, title = "rl-lp", "RL + length penalty"
    trains = "the policy, by GRPO on the task's reward and a penalty on long right answers"
    costs = "its reasoning in words"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.rl(bench.model, mode="plain", **PENALTY), self.title, mode="plain")


class DirectRl(Arm):
    name, title = "direct-rl", "Direct answer (RL)"
    trains = "the policy, by GRPO on the task's reward, to answer at once"
    costs = "nothing: the answer alone"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.rl(bench.model, mode="direct"), self.title, mode="direct")
