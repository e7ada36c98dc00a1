"""LiteReason's way to train on traces: random sentences become thoughts (arXiv 2512.02240, section 3)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from litereason.ablations import held_out_losses
from litereason.sampling import encode
from litereason.sft import ProjectorTrainer, Row, SFTJob, SFTMethod
from litereason.traces import Replacement, training_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thoughts(SFTMethod):
    """Cross-entropy on what follows the thoughts, through every latent step (arXiv 2512.02240).

    Its options are the stage's.
    """

    def __call__(self, job: SFTJob) -> dict[str, Any]:
        config, how = job.config, job.config.replacement
        rows = self.rows(job, job.traces, how)
        held_out: list[Row] = []
        if job.held_out:  # one row a trace: rows of one trace are not independent
            once = dataclasses.replace(how, shares=how.shares[-1:], copies=1, loss_after="first")
            held_out = self.rows(job, job.held_out, once)[: config.eval_rows]
        trainer = job.fit(rows, job.settings, f"sft {config.name}", kind=self.trainer())
        result: dict[str, Any] = {"rows": len(rows), "skipped_steps": trainer.skipped_steps}
        if held_out:
            result["held_out"] = held_out_losses(job.model, held_out, job.tokenizer.pad_token_id)
        return result

    def rows(self, job: SFTJob, traces: Sequence[tuple[str, str]], how: Replacement) -> list[Row]:
        """See `traces.training_rows`."""
        config, tokenizer, tags = job.config, job.tokenizer, job.model.latent_tags
        encoded = [(encode(tokenizer, prompt, tags), text) for prompt, text in traces]
        return training_rows(encoded, how, tokenizer, tags, config.seed, config.max_length)

    def trainer(self) -> Callable[..., ProjectorTrainer]:
        """Makes the trainer, from what a `ProjectorTrainer` is made of."""
        return ProjectorTrainer
