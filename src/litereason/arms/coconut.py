"""COCONUT (arXiv 2412.06769): a fixed number of latent steps, learned by a curriculum."""

from litereason import files
from litereason.arms.arm import Arm
from litereason.arms.bench import Bench


class Coconut(Arm):
    name, title = "coconut", "COCONUT"
    trains = (
        "RL's policy, on its own right traces, whose sentences become latent steps stage by stage"
    )
    goes_latent = "at the start, for a fixed number of steps"
    costs = "its latent steps, whatever the item"
    needs = ("rl", "collect-own")

    def run(self, bench: Bench) -> None:
        model = bench.sft(**bench.reasoner(), method="coconut", mode="plain")
        prefix = "" if bench.dry else files.read_json(model.parent / "summary.json")["prefix"]
        bench.evaluate(model, self.title, mode="plain", prefix=prefix)
