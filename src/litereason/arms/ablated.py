"""A trained model with its latents replaced at evaluation: do they do anything?"""

from typing import Any, ClassVar

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench
from litereason.arms.litereason import TAG, LiteReason


class Ablated(Arm):
    """The model of the arm that it needs, evaluated with `settings`."""

    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("litereason",)
    stage = "rl"  # the last that trains it
    settings: ClassVar[dict[str, Any]]

    def run(self, bench: Bench) -> None:
        model = bench.trained(self.stage, self.needs[0])
        bench.evaluate(model, self.title, mode="latent", **self.settings)


class OtherRow(Ablated):
    name, title = "litereason-other-row", "LiteReason, another row's latents"
    settings = {"ablation": "other_row"}  # noqa: RUF012


class Zeros(Ablated):
    name, title = "litereason-zeros", "LiteReason, latents zeroed"
    settings = {"ablation": "zeros"}  # noqa: RUF012


class Noise(Ablated):
    name, title = "litereason-noise", "LiteReason, noise of the latents' norm"
    settings = {"ablation": "noise"}  # noqa: RUF012


class Skip(Ablated):
    name, title = "litereason-skip", "LiteReason, thoughts skipped"
    goes_latent = "the policy samples a tag; no latent step is taken"
    costs = "words alone"
    settings = {"max_thoughts": 0}  # noqa: RUF012
