"""Baselines that train nothing: the base model decodes in another way."""

from typing import Any, ClassVar

from litereason.arms.arm import Arm
from litereason.arms.bench import Bench


class MixtureOfInputs(Arm):
    name, title = "mixture-of-inputs", "Mixture of Inputs"
    goes_latent = "never; each token goes in as a mixture of itself and what else was likely"
    costs = "its reasoning in words"

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.model, self.title, mode="plain", decoding="mixture_of_inputs")


class SoftThinking(Arm):
    name, title = "soft-thinking", "Soft Thinking"
    goes_latent = (
        "from the start, until an answer is likeliest, or it was certain for `patience` steps"
    )
    costs = "a latent step for each token that it would have written"
    settings: ClassVar[dict[str, Any]] = {"mode": "plain", "decoding": "soft_thinking"}

    def run(self, bench: Bench) -> None:
        bench.evaluate(bench.model, self.title, **self.settings)


class SoftThinkingOne(SoftThinking):
    """The control of Soft Thinking: the mean of one embedding is that token, so this is greedy decoding."""

    name, title = "soft-thinking-one", "Soft Thinking, one token a step (greedy)"
    costs = "a latent step, which is its likeliest token, for each token that it would have written"
    settings: ClassVar[dict[str, Any]] = {**SoftThinking.settings, "decoding_options": {"k": 1}}
    needs = ("soft-thinking",)
    variant_of = "soft-thinking"


class SoftThinkingCold(SoftThinking):
    """With the authors' patience (256 steps) short completions never meet the cold stop.

    The authors' stop writes the marker that ends thinking. A model without one goes on in words.
    """

    name, title = "soft-thinking-cold", "Soft Thinking until 4 certain steps, then words"
    goes_latent = "from the start, until an answer is likeliest, or it was certain for 4 steps"
    costs = "a latent step for each token until then, then words"
    settings: ClassVar[dict[str, Any]] = {
        **SoftThinking.settings,
        "decoding_options": {"patience": 4},
    }
