"""Ways to train on traces (`litereason sft --method NAME`): LiteReason's, and the baselines'.

Opening the stage, loading and saving are the stage's own (`stages.sft`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from litereason.ablations import held_out_losses
from litereason.baselines.coconut import Coconut
from litereason.baselines.colar_sft import ColarSFT
from litereason.sampling import encode
from litereason.sft import Row, SFTJob, SFTMethod
from litereason.traces import Replacement, training_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thoughts(SFTMethod):
    """LiteReason's: random sentences become thoughts (arXiv 2512.02240; METHOD section 3).

    Its options are the stage's.
    """

    def __call__(self, job: SFTJob) -> dict[str, Any]:
        config, tokenizer, tags = job.config, job.tokenizer, job.model.latent_tags

        def rows_of(traces: Sequence[tuple[str, str]], how: Replacement) -> list[Row]:
            encoded = [(encode(tokenizer, p, tags), text) for p, text in traces]
            return training_rows(encoded, how, tokenizer, tags, config.seed, config.max_length)

        how = config.replacement
        rows = rows_of(job.traces, how)
        held_out: list[Row] = []
        if job.held_out:  # one row a trace: rows of one trace are not independent
            once = dataclasses.replace(how, shares=how.shares[-1:], copies=1, loss_after="first")
            held_out = rows_of(job.held_out, once)[: config.eval_rows]
        trainer = job.fit(rows, job.settings, f"sft {config.name}")
        result: dict[str, Any] = {"rows": len(rows), "skipped_steps": trainer.skipped_steps}
        if held_out:
            result["held_out"] = held_out_losses(job.model, held_out, tokenizer.pad_token_id)
        return result


METHODS: dict[str, type[SFTMethod]] = {
    "thoughts": Thoughts,
    "coconut": Coconut,
    "colar": ColarSFT,
}
