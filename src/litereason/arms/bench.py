"""One seed's stages with the recipe's settings: the same prompts, sampler and budgets for every arm."""

import dataclasses
from pathlib import Path
from typing import Any

from litereason import stages
from litereason.compare.note import note_path, read_note
from litereason.config import LatentConfig
from litereason.errors import ConfigError, LiteReasonError
from litereason.grpo import LatentGRPOConfig
from litereason.options import build
from litereason.sft import ProjectorConfig
from litereason.stages.training import trainer_settings
from litereason.tasks import get_task
from litereason.tasks.base import preflight

Section = dict[str, Any]
KINDS: dict[str, tuple[type, type | None]] = {
    "collect": (stages.CollectConfig, None),
    "sft": (stages.SFTConfig, ProjectorConfig),
    "rl": (stages.RLConfig, LatentGRPOConfig),
    "eval": (stages.EvalConfig, None),
}
# By stage: what it writes last.
RESULTS = {"collect": "traces.jsonl", "sft": "model", "rl": "model", "eval": "summary.json"}
OWN_KEYS = ("run_dir", "name", "seed")  # what no stage is told: the comparison's to choose
_SEEN: set[str] = set()  # tasks, splits and prompts that were looked at
TRACES, OWN = "traces", "own"  # names under which arms find those of the base, of RL's policy
MADE_BY = {TRACES: "collect", OWN: "collect-own"}  # jobs that end before the arms which need them


@dataclasses.dataclass
class Bench:
    """Stages of one arm under one seed; remembers which it used.

    Args:
        arm: the arm's name.
        run: the seed's run directory.
        model: the base model that every arm starts from.
        seed: of everything random.
        shared: what all stages are told (task, its options).
        sections: what each stage is told, by its name.
        changes: the same for this arm alone.
        dry: check the settings only; nothing runs.
    """

    arm: str
    run: Path
    model: str
    seed: int
    shared: Section
    sections: dict[str, Section]
    changes: dict[str, Section]
    dry: bool = False
    used: list[str] = dataclasses.field(default_factory=list)
    own: set[str] = dataclasses.field(default_factory=set)  # kinds of stages that it runs itself
    judged: Any = None  # the settings of the evaluation

    def collect(self, model: str | Path | None = None, name: str = TRACES, **settings: Any) -> Path:
        """Traces of a model (by default the base) that earned a reward.

        Arms share them by name; one that is told to collect otherwise has its own.
        """
        model, name = str(model or self.model), self.arm if "collect" in self.changes else name
        if not self.dry and self.arm != MADE_BY.get(name, self.arm):
            # made and checked: arms side by side must not hold the directory against each other
            self._use("collect", name)
            return self.run / "collect" / name / RESULTS["collect"]
        settings = {"model": model} | settings
        return self._stage("collect", name, stages.collect, **settings)

    def reasoner(self, arm: str = "rl", name: str = OWN, **settings: Any) -> Section:
        """The policy of an arm's RL and its own right traces, for `sft`: where silent thinking is learned.

        Args:
            name, settings: of the traces.
        """
        policy = self.trained("rl", arm)
        return {"model": str(policy), "traces": str(self.collect(policy, name, **settings))}

    def reasoner_of(self, arm: str, policy: str = "rl") -> Section:
        """The same with the traces that another arm trained on, whatever it was told."""
        places = [f"collect/{OWN}"]
        if not self.dry:
            places = read_note(note_path(self.run, arm))["stages"]
        model = self.trained("rl", policy)
        name = [place for place in places if place.startswith("collect/")][-1].split("/")[1]
        self._use("collect", name)
        traces = self.run / "collect" / name / "traces.jsonl"
        return {"model": str(model), "traces": str(traces)}

    def sft(self, **settings: Any) -> Path:
        """This arm's model after supervised training on the traces."""
        if "traces" not in settings:
            settings["traces"] = str(self.collect())
        settings = {"model": self.model} | settings
        return self._stage("sft", self.arm, stages.sft, **settings)

    def rl(self, model: str | Path, **settings: Any) -> Path:
        """This arm's model after RL from `model`."""
        return self._stage("rl", self.arm, stages.rl, model=str(model), **settings)

    def evaluate(self, model: str | Path, title: str, **settings: Any) -> None:
        """This arm's records on the evaluation split."""
        settings = {"model": str(model), "title": title} | settings
        self._stage("eval", self.arm, stages.evaluate, **settings)

    def trained(self, stage: str, arm: str) -> Path:
        """The model of another arm's stage (`sft` or `rl`), whose cost this arm shares."""
        if not self.dry:
            # its note names the stages behind it; RL of its own comes after its SFT
            later = ["eval", *(["rl"] if stage == "sft" else [])]
            for place in read_note(note_path(self.run, arm))["stages"]:
                if place not in [f"{kind}/{arm}" for kind in later]:
                    self._use(*place.split("/"))
        return self.run / stage / arm / "model"

    def _stage(self, kind: str, name: str, function: Any, **settings: Any) -> Path:
        stage, trainer = KINDS[kind]
        told = self.sections.get(kind, {}) | self.changes.get(kind, {})
        if chosen := [key for key in OWN_KEYS if key in told]:
            raise ConfigError(
                f"arm {self.arm!r}, {kind}: {chosen[0]} is {told[chosen[0]]!r}, but the comparison chooses "
                "it; leave it out"
            )
        values = self.shared | self.sections.get(kind, {}) | settings | self.changes.get(kind, {})
        values |= {"run_dir": str(self.run), "name": name, "seed": self.seed}
        try:
            config = build(stage, values, trainer)
            if self.dry:
                self._check(config, trainer)
        except LiteReasonError as error:
            raise type(error)(f"arm {self.arm!r}, {kind}: {error}") from error
        if kind == "eval":
            self.judged = config
        if not self.dry:
            function(config)
        self._use(kind, name)
        self.own.add(kind)
        return self.run / kind / name / RESULTS[kind]

    def _check(self, config: Any, trainer: type | None) -> None:
        """What a stage would refuse after its start."""
        if trainer:
            trainer_settings(trainer, self.run, config)
        if isinstance(config, stages.SFTConfig):  # every arm attaches its own latent steps
            config.how.check_steps(LatentConfig.max_latent_steps)
        asked = (config.task, config.task_options, config.split, config.limit, config.mode)
        if (key := repr(asked)) not in _SEEN:
            preflight(get_task(*asked[:2]), *asked[2:])
            _SEEN.add(key)

    def _use(self, kind: str, name: str) -> None:
        place = f"{kind}/{name}"
        if place not in self.used and (self.dry or (self.run / place).exists()):
            self.used.append(place)
