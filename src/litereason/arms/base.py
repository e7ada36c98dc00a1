"""The model as it is, with words, with thoughts offered, or asked for the answer at once."""

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench


class Base(Arm):
    name, title = "base", "Base"
    costs = "its reasoning in words"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.model, self.title, mode="plain")


class BaseOffered(Arm):
    name, title = "base-offered", "Base, thoughts offered"
    goes_latent = "the model writes a tag, which it was never taught; the projector is untrained"
    costs = "its reasoning in words and latent steps"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.model, self.title, mode="latent")


class Direct(Arm):
    name, title = "direct", "Direct answer (prompted)"
    costs = "nothing: the answer alone"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.model, self.title, mode="direct")
