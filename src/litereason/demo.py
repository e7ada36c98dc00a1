"""The whole story on the embedded task, on two CPU cores: `litereason demo`.

A tiny base model is trained from nothing, then the arms: base, direct answers, ordinary RL, LiteReason,
and LiteReason's control, in which every latent step is the same trained pause embedding. Each arm is
judged on held-out stories, LiteReason also with another row's latents, and the report says what held.
Nothing is chosen on the test split. The stories are audited first. Every stage resumes and is skipped when
complete. What does not need each other runs at the same time: a model this small makes no use of a second
thread.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litereason import files, stages
from litereason.audit.command import AuditConfig, audit
from litereason.compare.results import write_comparison
from litereason.console import say
from litereason.errors import ConfigError
from litereason.report import write_report
from litereason.run_dir import open_stage
from litereason.side_by_side import side_by_side
from litereason.stories.base_model import Lessons, train_base

TITLES = {
    "base": "Base",
    "direct": "Direct answer (prompted)",
    "direct-rl": "Direct answer (RL)",
    "rl": "RL, no latent steps",
    "litereason": "LiteReason",
    "pause": "LiteReason, trained pause",
    "litereason-other-row": "LiteReason, another row's latents",
}


@dataclasses.dataclass(kw_only=True)
class DemoConfig:
    """Run every stage on the embedded task and write a report (about 20 minutes on 2 cores)."""

    run_dir: str = stages.option("runs/demo", "where everything goes")
    quick: bool = stages.option(False, "a smaller run of a few minutes, to see all stages work")
    seed: int = stages.option(0, "seed of everything random")
    workers: int = stages.option(3, "arms that run side by side, a thread and about 1 GB each")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; expected at least 1")


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of everything."""

    lessons: Lessons
    collect_prompts: int
    sft_steps: int
    rl_steps: int
    direct_steps: int
    test_items: int


FULL = Scale(Lessons(), 600, 80, 45, 18, 500)
QUICK = Scale(Lessons(steps=60, curriculum=40, hasty_steps=10), 40, 10, 3, 2, 60)


def demo(config: DemoConfig) -> Path:
    """Run the demo; returns the report's path."""
    scale = QUICK if config.quick else FULL
    run = Path(config.run_dir)
    open_stage(run, config)
    clock = Clock(run / "timings.json")
    clock("audit the stories", lambda: audit_stories(run, scale))
    base = clock(
        "train the base model", lambda: train_base(run / "base", scale.lessons, config.seed)
    )
    make = Arms(config, scale, base)
    clock("collect traces", make.collect)
    arms = {name: functools.partial(run_arms, make, name) for name in ("rl", "litereason", "pause")}
    clock("arms, side by side", lambda: side_by_side(arms, config.workers, run / "logs"))
    write_comparison(run)
    report = write_report(run)
    say(f"report: {report}")
    return report


def audit_stories(run: Path, scale: Scale) -> None:
    """Look for leaks in the stories that the arms train on and are judged on."""
    if (run / "audit" / "stories" / "audit.json").exists():
        return
    limit = max(scale.collect_prompts, scale.test_items)
    audit(
        AuditConfig(
            task="stories", split="train,test", limit=limit, run_dir=str(run), name="stories"
        )
    )


def run_arms(make: "Arms", name: str) -> None:
    """All stages of an arm, or of all arms without thoughts (`rl`), with times of their own."""
    clock = Clock(Path(make.config.run_dir) / "logs" / f"{name}.json")
    if name == "rl":
        evaluate(clock, make, "base", make.base, "plain")
        evaluate(clock, make, "direct", make.base, "direct")
        for arm, mode in (("direct-rl", "direct"), ("rl", "plain")):
            model = clock(f"{arm}: RL", lambda a=arm, m=mode: make.rl(a, make.base, m))
            evaluate(clock, make, arm, model, mode)
        return
    projector = "pause" if name == "pause" else "rms"
    start = clock(f"{name}: SFT", lambda: make.sft(name, projector))
    model = clock(f"{name}: RL", lambda: make.rl(name, start, "latent"))
    evaluate(clock, make, name, model, "latent")
    if name == "litereason":
        evaluate(clock, make, "litereason-other-row", model, "latent", "other_row")


class Clock:
    """Runs stages and keeps their seconds; a stage skipped on resume keeps its first time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        if path.exists():
            self.seconds = files.read_json(path)

    def __call__(self, name: str, stage: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = stage()
        taken = time.perf_counter() - start
        self.seconds[name] = round(max(taken, self.seconds.get(name, 0.0)), 1)
        files.write_json(self.path, self.seconds)
        return result


@dataclasses.dataclass(frozen=True)
class Arms:
    """Stage settings that all arms share: same prompts, same sampler, same budgets."""

    config: DemoConfig
    scale: Scale
    base: Path

    def shared(self, name: str) -> dict[str, Any]:
        return {"run_dir": self.config.run_dir, "name": name, "seed": self.config.seed}

    def collect(self) -> Path:
        return stages.collect(
            stages.CollectConfig(
                model=str(self.base),
                limit=self.scale.collect_prompts,
                samples=5,
                batch_size=250,
                max_new_tokens=NEW_TOKENS,
                **self.shared("traces"),
            )
        )

    def sft(self, name: str, projector: str) -> Path:
        return stages.sft(
            stages.SFTConfig(
                model=str(self.base),
                mode="latent",
                projector=projector,
                projector_depth=1,
                limit=self.scale.collect_prompts,
                traces=str(Path(self.config.run_dir) / "collect" / "traces" / "traces.jsonl"),
                train="all",
                shares=(0.10, 0.25),
                copies=1,
                loss_after="prompt",
                trainer={
                    "max_steps": self.scale.sft_steps,
                    "learning_rate": 1e-3,
                    "per_device_train_batch_size": 32,
                    "gradient_accumulation_steps": 1,
                    "max_grad_norm": 1.0,
                    "logging_steps": 5,
                },
                **self.shared(name),
            )
        )

    def rl(self, name: str, start: Path, mode: str) -> Path:
        steps = self.scale.direct_steps if mode == "direct" else self.scale.rl_steps
        return stages.rl(
            stages.RLConfig(
                model=str(start),
                mode=mode,
                limit=PROMPTS_A_STEP * max(1, steps // EPOCHS),
                trainer={
                    "max_steps": steps,
                    "learning_rate": 3e-4,
                    "lr_scheduler_type": "constant_with_warmup",
                    "warmup_steps": 5,
                    "adam_beta2": 0.95,
                    "max_grad_norm": 1.0,
                    "loss_type": "dr_grpo",
                    "num_generations": 8,
                    "per_device_train_batch_size": 64,
                    "gradient_accumulation_steps": PROMPTS_A_STEP * 8 // 64,
                    "max_completion_length": NEW_TOKENS,
                    "logging_steps": 1,
                    "save_steps": 20,
                },
                **self.shared(name),
            )
        )


NEW_TOKENS = 200
PROMPTS_A_STEP = 16
EPOCHS = 3  # passes over the RL prompts, so that the projector is refreshed twice on the way


def evaluate(
    clock: Clock, make: Arms, name: str, model: Path, mode: str, ablation: str | None = None
) -> None:
    """Judge one arm on the test split, one sample an item, the paper's sampler."""
    clock(
        f"evaluate {name}",
        lambda: stages.evaluate(
            stages.EvalConfig(
                model=str(model),
                mode=mode,
                ablation=ablation,
                title=TITLES[name],
                limit=make.scale.test_items,
                samples=1,
                batch_size=250,
                max_new_tokens=NEW_TOKENS,
                **make.shared(name),
            )
        ),
    )
