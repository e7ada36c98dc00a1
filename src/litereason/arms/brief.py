"""Short, then silent: RL, RL with a length penalty, no restatement of the prompt, distilled thoughts.

Each step shortens reasoning in its own way; the arms in words between them say what each is worth, and
`rl-longer` what as much RL is worth without a penalty (docs/research.md).
"""

from typing import Any, ClassVar

from litereason.arms.ablated import Ablated
from litereason.arms.arm import Arm
from litereason.arms.bench import Bench
from litereason.arms.distil import PAUSE, PAUSE_TOLD, THOUGHTS
from litereason.arms.litereason import TAG, LiteReason
from litereason.arms.rl import PENALTY, PLAIN

PRUNE = 1.0  # sentences of whose words all stand in one sentence of the prompt are left out


class RlLonger(Arm):
    name, title = "rl-longer", "RL, then RL again"
    trains = "RL's policy, by GRPO on the task's reward once more"
    costs = "its reasoning in words"
    needs = ("rl",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.trained("rl", "rl"), mode="plain")
        bench.evaluate(model, self.title, mode="plain")


class BriefRl(Arm):
    name, title = "brief-rl", "RL, then RL + length penalty"
    trains = "RL's policy, by GRPO with a penalty on long right answers"
    costs = "its reasoning in words"
    needs = ("rl",)

    def run(self, bench: Bench) -> None:
        model = bench.rl(bench.trained("rl", "rl"), mode="plain", **PENALTY)
        bench.evaluate(model, self.title, mode="plain")


class BriefWhole(Arm):
    name, title = "brief-whole", "LiteReason, brief: nothing left out"
    trains = (
        "the policy of RL and a length penalty after it, and a projector, on its own right traces, each "
        "latent step toward the words that it stands for"
    )
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("brief-rl",)

    def run(self, bench: Bench) -> None:
        told = bench.reasoner(BriefRl.name, self.name)
        model = bench.sft(**told, **THOUGHTS, method="distil")
        bench.evaluate(model, self.title, mode="latent")


class Brief(Arm):
    name, title = "brief", "LiteReason, brief"
    trains = f"{BriefWhole.trains}; then on traces without the sentences that restate the prompt"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("brief-whole",)

    def run(self, bench: Bench) -> None:
        told = {"model": str(bench.trained("sft", BriefWhole.name))}
        told = bench.reasoner(BriefRl.name, self.name, prune=PRUNE) | told
        model = bench.sft(**told, **THOUGHTS, method="distil")
        bench.evaluate(model, self.title, mode="latent")


class BriefWords(Arm):
    name, title = "brief-words", "LiteReason, brief: in words"
    trains = "the policy of RL and a length penalty after it, on the traces of `brief`, in words"
    costs = "its reasoning in words"
    needs = ("brief",)

    def run(self, bench: Bench) -> None:
        told = bench.reasoner_of("brief", BriefRl.name)
        bench.evaluate(bench.sft(**told, **PLAIN), self.title, mode="plain")


class BriefWholePause(Arm):
    """The first half of the pause's training: it has both sets of traces, in the order of `brief`."""

    name, title = "brief-whole-pause", "LiteReason, brief: nothing left out, trained pause"
    trains = (
        "the policy of RL and a length penalty after it, and one embedding for all latent steps, on the "
        "traces of `brief-whole`: cross-entropy alone"
    )
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("brief-whole",)
    pause = PAUSE

    def run(self, bench: Bench) -> None:
        told = bench.reasoner_of(BriefWhole.name, BriefRl.name)
        model = bench.sft(**told, **THOUGHTS, **self.pause)
        bench.evaluate(model, self.title, mode="latent")


class BriefPause(Arm):
    name, title = "brief-pause", "LiteReason, brief: trained pause"
    trains = f"{BriefWholePause.trains}; then on those of `brief`"
    goes_latent = TAG
    costs = LiteReason.costs
    needs = ("brief", "brief-whole-pause")
    pause = PAUSE

    def run(self, bench: Bench) -> None:
        _, first = self.needs  # the half of its training that it goes on from
        told = {"model": str(bench.trained("sft", first))}
        told = bench.reasoner_of("brief", BriefRl.name) | told
        model = bench.sft(**told, **THOUGHTS, **self.pause)
        bench.evaluate(model, self.title, mode="latent")


class BriefWholePauseTold(BriefWholePause):
    """As `distil-pause-told`."""

    name = "brief-whole-pause-told"
    title = "LiteReason, brief: nothing left out, pause told the same"
    trains = (
        "the policy of RL and a length penalty after it, and one embedding for all latent steps, on the "
        "traces of `brief-whole`; the state before each step is taught the words of the step"
    )
    pause = PAUSE_TOLD


class BriefPauseTold(BriefPause):
    name, title = "brief-pause-told", "LiteReason, brief: pause told the same"
    trains = f"{BriefWholePauseTold.trains}; then on those of `brief`"
    needs = ("brief", "brief-whole-pause-told")
    pause = PAUSE_TOLD


class BriefOtherRow(Ablated):
    name, title = "brief-other-row", "LiteReason, brief: another row's latents"
    needs = ("brief",)
    stage = "sft"
    settings: ClassVar[dict[str, Any]] = {"ablation": "other_row"}
