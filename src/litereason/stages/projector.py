"""Stage 2, `litereason sft`: the projector, or everything, on traces in which sentences became thoughts."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from litereason import files
from litereason import model as latent
from litereason.console import say
from litereason.options import choose, option
from litereason.run_dir import held_stage
from litereason.stages.settings import StageConfig
from litereason.stages.training import finish, master_weights, trainer_settings
from litereason.traces import Replacement, read_traces


@dataclasses.dataclass(kw_only=True)
class SFTConfig(StageConfig):
    """Stage 2: train the projector on traces in which sentences became thoughts."""

    mode: str = option("latent", "prompt: latent (thoughts offered), plain or direct")
    traces: str = option("", "traces.jsonl; default: RUN_DIR/collect/NAME/traces.jsonl")
    train: str = option("projector", "projector (base frozen), or all")
    shares: tuple[float, ...] = option((0.10, 0.25), "shares of sentences to replace (s_r)")
    copies: int = option(5, "rows per trace and share")
    ratio: float = option(0.2, "latent steps per replaced token (t_r)")
    loss_after: str = option("first", "loss after the first tag, the last, or the prompt")
    max_length: int = option(4096, "longer rows are left out")
    eval_traces: str | None = option(None, "traces to report the loss on, beside three controls")
    eval_rows: int = option(200, "so many rows of them at most")
    method: str = option(
        "thoughts", "how it trains: thoughts (LiteReason's), distil, coconut or colar"
    )
    method_options: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "the method's own, as --method_options.NAME VALUE"}
    )
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        from litereason.sft_methods import METHODS

        super().__post_init__()
        default = Path(self.run_dir) / "collect" / self.name / "traces.jsonl"
        self.traces = self.traces or str(default)
        self.replacement = Replacement(self.shares, self.copies, self.ratio, self.loss_after)
        self.how = choose("method", METHODS, self.method, self.method_options)
        self.how.settle(self)


def sft(config: SFTConfig) -> Path:
    """Train the projector (or everything) on traces, as `config.method` says; write `model/`."""
    pairs = read_traces(Path(config.traces), config)
    judged = read_traces(Path(config.eval_traces), config) if config.eval_traces else []
    with held_stage(config.home("sft"), config) as directory:
        return train_on(config, directory, pairs, judged)


def train_on(
    config: SFTConfig,
    directory: Path,
    pairs: list[tuple[str, str]],
    judged: list[tuple[str, str]],
) -> Path:
    """The same in the stage's directory, on traces that were read; the loss on those `judged` is told."""
    from litereason.sft import ProjectorConfig, SFTJob

    if (directory / "model").exists():
        say(f"sft: already complete, {directory / 'model'}")
        return directory / "model"
    settings = trainer_settings(ProjectorConfig, directory, config, train=config.train)
    torch.manual_seed(config.seed)
    model, tokenizer = config.load(True, **master_weights(config.train == "all"))
    job = SFTJob(
        config=config,
        settings=settings,
        directory=directory,
        model=model,
        tokenizer=tokenizer,
        traces=pairs,
        held_out=judged,
    )
    result = config.how(job)
    result["latents_out_of_range"] = latent.backbone(model).latents_out_of_range
    files.write_json(directory / "summary.json", result)
    return finish(model, tokenizer, directory)
