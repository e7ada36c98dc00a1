"""COCONUT (arXiv 2412.06769): reasoning moves, stage by stage, from sentences into latent steps.

There is no projector: a latent step's input is the last hidden state itself, and the model learns to read
it. Stage 0 trains on plain traces. Stage s = 1 .. K replaces the first s sentences of every trace by one
thought of s * c latent steps, also where a trace has fewer; the last stage, K + 1, replaces all of them by
K * c. The loss is on what follows the thought (stage 0: on the whole completion); the answer is never
replaced. The optimiser begins anew at each stage.

At inference every completion begins with the thought of the last stage: `SamplingConfig.prefix`, which
the stage's summary names.
"""

import collections
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.ablations import held_out_losses
from litereason.console import say
from litereason.errors import ConfigError, DataError
from litereason.projector import IdentityProjector
from litereason.sampling import encode, prefix_ids
from litereason.sft import Row, SFTJob, SFTMethod
from litereason.tags import Tags
from litereason.traces import make_row, replaceable, split_sentences
from litereason.trainers import whole_checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coconut(SFTMethod):
    """COCONUT's curriculum (arXiv 2412.06769, section 3).

    Attributes:
        stages: the number K of stages that replace one sentence more each.
        steps_a_stage: latent steps for each of these sentences, c.
        epochs_a_stage: epochs of a stage.
    """

    projector = "identity"  # there is none, so the policy trains

    stages: int = 3
    steps_a_stage: int = 2
    epochs_a_stage: float = 3.0

    def __post_init__(self) -> None:
        for name in ("stages", "steps_a_stage", "epochs_a_stage"):
            if not (value := getattr(self, name)) > 0:
                raise ConfigError(f"{name} is {value}; expected more than 0")

    def settle(self, config: Any) -> None:
        super().settle(config)
        if "num_train_epochs" in config.trainer:
            raise ConfigError(
                "--method coconut counts --method_options.epochs_a_stage, not --num_train_epochs"
            )

    def __call__(self, job: SFTJob) -> dict[str, Any]:
        """Train through all stages; a run that was killed goes on in its stage.

        Raises:
            ConfigError: a model with a projector, or a thought longer than it can take or write.
            DataError: traces that hold thoughts, or are too long.
        """
        self.check(job)
        config, last = job.config, self.stages + 1
        root = Path(str(job.settings.output_dir))
        begun = [s for s in range(last + 1) if whole_checkpoint(stage_directory(root, s))]
        first = begun[-1] if begun else 0
        before = (
            files.read_json(stage_directory(root, first) / "start.json")["step"] if begun else 0
        )
        rows: list[Row] = []
        skipped = 0
        for stage in range(first, last + 1):
            rows = self.rows(job, job.traces, stage)
            place = stage_directory(root, stage)
            files.write_json(place / "start.json", {"step": before})
            settings = dataclasses.replace(
                job.settings, output_dir=str(place), num_train_epochs=self.epochs_a_stage
            )
            title = f"sft {config.name}, stage {stage} of 0-{last}"
            trainer = job.fit(rows, settings, title, before)
            before += trainer.state.global_step
            skipped += trainer.skipped_steps
            shutil.rmtree(stage_directory(root, stage - 1), ignore_errors=True)
        prefix = self.prefix(job)
        result: dict[str, Any] = {"rows": len(rows), "skipped_steps": skipped, "prefix": prefix}
        if job.held_out:
            judged = self.rows(job, job.held_out, last)[: config.eval_rows]
            result["held_out"] = held_out_losses(job.model, judged, job.tokenizer.pad_token_id)
        say(f"coconut: its completions begin with a thought; give `eval` --prefix {prefix!r}")
        return result

    def check(self, job: SFTJob) -> None:
        """Raise what a call raises, before it trains."""
        model, tags = job.model, job.model.latent_tags
        if not isinstance(model.latent_projector, IdentityProjector):
            raise ConfigError(
                f"the model has the projector {model.latent_config.projector!r}, but COCONUT has none; "
                "give --method coconut a model without latent steps"
            )
        self.check_steps(tags.max_latent_steps)
        for number, (_, text) in enumerate(job.traces, 1):
            if tags.pattern.search(text):
                raise DataError(
                    f"trace {number} holds a thought; COCONUT begins with plain traces. Collect them "
                    "without latent steps (--mode plain)"
                )
        for stage in range(1, self.stages + 1):
            steps = stage * self.steps_a_stage
            written = prefix_ids(model, job.tokenizer, lead_of(job) + tags.text(steps))
            if written.count(tags.latent_token_id) != steps:
                raise ConfigError(
                    f"the tokenizer cannot write the tag {tags.text(steps)!r}; take fewer stages or "
                    "steps_a_stage"
                )

    def check_steps(self, most: int) -> None:
        steps = self.stages * self.steps_a_stage
        if steps > most:
            raise ConfigError(
                f"stages {self.stages} times steps_a_stage {self.steps_a_stage} are {steps} latent "
                f"steps; the model takes at most {most} (LatentConfig.max_latent_steps)"
            )

    def rows(self, job: SFTJob, traces: Sequence[tuple[str, str]], stage: int) -> list[Row]:
        """Training rows of a stage, one a trace (see `traces.make_row`).

        Raises:
            DataError: every row is longer than `max_length`.
        """
        limit, tokenizer, tags = job.config.max_length, job.tokenizer, job.model.latent_tags
        rows = []
        for prompt, text in traces:
            thought, rest = split(text, stage, self.stages, self.steps_a_stage, tags)
            ids = prefix_ids(job.model, tokenizer, thought)
            # apart, as at inference: a tokenizer could merge the end of the tag with what follows
            ids += [*tokenizer(rest, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            after = "first" if stage else "prompt"
            row = make_row(encode(tokenizer, prompt, tags), ids, after, tags)
            if row and len(row["input_ids"]) <= limit:
                rows.append(row)
        if not rows:
            raise DataError(
                f"COCONUT, stage {stage}: all {len(traces)} traces are longer than --max_length "
                f"{limit} tokens"
            )
        return rows

    def prefix(self, job: SFTJob) -> str:
        """What every completion begins with after the last stage."""
        return lead_of(job) + job.model.latent_tags.text(self.stages * self.steps_a_stage)


def stage_directory(root: Path, stage: int) -> Path:
    """Where a stage's checkpoints are, and `start.json`: the steps before it."""
    return root / f"stage-{stage}"


def split(text: str, stage: int, stages: int, steps: int, tags: Tags) -> tuple[str, str]:
    """(thought, what follows it) of a trace in a stage; the thought is empty in stage 0.

    Args:
        stage: 0 to `stages` + 1.
        stages: the number K of stages that replace one sentence more.
        steps: latent steps a stage, c.
    """
    if stage == 0:
        return "", text
    sentences = split_sentences(text)
    free = replaceable(sentences, tags.name)
    free = free if stage > stages else free[:stage]
    tag = leading_space(text) + tags.text(min(stage, stages) * steps)
    if not free:  # an answer alone: it stays, on a line of its own
        return tag, (leading_space(text) or "\n") + text.lstrip()
    final = sentences[free[-1]]
    return tag, final[len(final.rstrip()) :] + "".join(sentences[free[-1] + 1 :])


def lead_of(job: SFTJob) -> str:
    """The white space that most traces begin with."""
    found = collections.Counter(leading_space(text) for _, text in job.traces)
    return found.most_common(1)[0][0]


def leading_space(text: str) -> str:
    """The white space at the start of `text`."""
    return text[: len(text) - len(text.lstrip())]
