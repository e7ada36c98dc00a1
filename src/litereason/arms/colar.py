"""CoLaR (arXiv 2505.16552): latent steps that stand for a few tokens each, with and without its RL."""

from typing import Any

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench

TOLD: dict[str, Any] = {"method": "colar", "mode": "plain"}


class Colar(Arm):
    name, title = "colar", "CoLaR"
    trains = "RL's policy and a latent head, on its own right traces, whose tokens are summed up in groups"
    goes_latent = "from the start, until the LM head says that it ends"
    costs = "a latent step for each group of tokens that it would have written"
    needs = ("rl", "collect-own")

    def run(self, bench: Bench) -> None:
        model = bench.sft(**bench.reasoner(), **TOLD)
        bench.evaluate(model, self.title, mode="plain", decoding="colar")


class ColarTwo(Colar):
    name, title = "colar-2", "CoLaR, 2 tokens a step"
    trains = "as CoLaR; told to sum up 2 tokens a step instead of 5"
    costs = "a latent step for every 2 tokens that it would have written"
    needs = ("colar",)

    def run(self, bench: Bench) -> None:
        model = bench.trained("sft", "colar")
        how = {"decoding": "colar", "decoding_options": {"r": 2}}
        bench.evaluate(model, self.title, mode="plain", **how)


class ColarRl(Arm):
    name, title = "colar-rl", "CoLaR + RL"
    trains = "as CoLaR; then both heads, by GRPO whose actions are latents and tokens"
    goes_latent = Colar.goes_latent
    costs = Colar.costs
    needs = ("colar",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.trained("sft", "colar"), **TOLD)
        bench.evaluate(model, self.title, mode="plain", decoding="colar")
