"""CoLaR's fine-tuning: the next compressed embedding, a token of it, and the answer (arXiv 2505.16552).

Groups of r consecutive embeddings of a trace are summed and divided by sqrt(r), which keeps their
variance, and stand where the trace stood. One parallel pass, teacher-forced, learns three things: the
latent head the Gaussian of the next compressed embedding, the LM head a random token of the next group
(so that it can say when to end), and the answer after the end marker. Left out: the entropy term that the
paper adds to its MSE.
"""

import dataclasses
import functools
import random
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from litereason.ablations import held_out_losses
from litereason.baselines.colar import LARGEST, Frame, Wording, check_counts, check_head
from litereason.compressed import CompressedTrainer, compress, parallel_pass
from litereason.errors import ConfigError, DataError
from litereason.latent_forward import embed
from litereason.losses import label_loss
from litereason.model import backbone, causal_lm, projector_of
from litereason.sampling import encode
from litereason.sft import Row, SFTJob, SFTMethod
from litereason.traces import reasoning_and_answer

LATENT_LOSSES = ("nll", "mse")


def training_rows(
    traces: Iterable[tuple[list[int], str]],
    tokenizer: Any,
    latent_id: int,
    wording: Wording,
    factors: Sequence[int],
    *,
    copies: int = 5,
    seed: int = 0,
    max_length: int = 4096,
) -> list[Row]:
    """Rows of compressed reasoning: a latent slot for every group (`compressed`).

    Args:
        traces: (encoded prompt, completion text) pairs.
        latent_id: id of the latent slots.
        wording: what is written around them.
        factors: compression factors, of which each row has one at random.
        copies: rows per trace.
        max_length: longer rows are left out.

    Raises:
        ModelError: the tokenizer cannot read the wording.
        DataError: no row is left.
    """
    rng = random.Random(seed)
    frames = {r: wording.frame(tokenizer, r) for r in factors}
    rows = []
    for prompt, text in traces:
        parts = reasoning_and_answer(text)
        reasoning, answer = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in parts)
        for _ in range(copies):
            r = rng.choice(factors)
            ended = [*answer, tokenizer.eos_token_id]
            row = make_row(prompt, reasoning, ended, r, frames[r], latent_id, rng)
            if len(row["input_ids"]) <= max_length:
                rows.append(row)
    if not rows:
        raise DataError(
            f"no training row is left: all have more than max_length={max_length} tokens"
        )
    return rows


def make_row(
    prompt: Sequence[int],
    reasoning: Sequence[int],
    answer: Sequence[int],
    r: int,
    frame: Frame,
    latent_id: int,
    rng: random.Random,
) -> Row:
    """One row. A slot's label is a random token of its group, never one that would end the thinking."""
    end = frame.closing[0]
    labels = []
    for start in range(0, len(reasoning), r):
        group = [token for token in reasoning[start : start + r] if token != end]
        labels.append(rng.choice(group) if group else -100)
    before = [*prompt, *frame.opening]
    after = [*frame.closing, *answer]
    return {
        "input_ids": [*before, *[latent_id] * len(labels), *after],
        "labels": [*[-100] * len(before), *labels, *after],
        "reasoning": list(reasoning),
        "groups": [k // r for k in range(len(reasoning))],
    }


def colar_losses(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    reasoning: Tensor,
    groups: Tensor,
    latent_loss: str = "nll",
) -> tuple[Tensor, Tensor]:
    """(cross-entropy, summed over labels; latent loss, mean over dimensions, summed over slots) of a batch.

    The latent loss is the negative log-density of the compressed embeddings (`nll`), or the mean's squared
    error (`mse`), both in units of the token embeddings' standard deviation. As targets they are
    constants: the embeddings are not trained to be easy to predict.

    Args:
        input_ids, attention_mask, labels, reasoning, groups: see `compressed.collate`.
    """
    spine, head = backbone(model), projector_of(model)
    compressed = compress(embed(spine, reasoning), groups)
    hidden, states = parallel_pass(model, input_ids, attention_mask, compressed)
    tokens = label_loss(causal_lm(model), hidden, labels)
    if not len(compressed):
        return tokens, tokens.new_zeros(())
    states, targets = states.to(head.out.weight.dtype), compressed.detach()
    if latent_loss == "nll":
        return tokens, -head.log_density(states, targets).sum()
    mean, _ = head.gaussian(states)
    return tokens, (targets.to(mean.dtype) / head.scale.to(mean.dtype) - mean).pow(2).mean(-1).sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColarSFT(Wording, SFTMethod):
    """CoLaR's fine-tuning (arXiv 2505.16552, section 3).

    Attributes:
        latent_loss: `nll` (the paper's; it alone trains the spread that sampling and RL need), or `mse`.
        largest: compression factors are drawn from 1 to this.
        opening, closing: see `Wording`.
    """

    projector = "colar"

    latent_loss: str = "nll"
    largest: int = LARGEST

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "largest")
        if self.latent_loss not in LATENT_LOSSES:
            raise ConfigError(f"latent_loss is {self.latent_loss!r}; expected 'nll' or 'mse'")

    def __call__(self, job: SFTJob) -> dict[str, Any]:
        """Train on rows of compressed reasoning.

        Raises:
            ModelError: no latent head, or a tokenizer that cannot read the wording.
            DataError: traces that are too long.
        """
        check_head(job.model)
        config, pad = job.config, job.tokenizer.pad_token_id
        rows = self.rows(job, job.traces, range(1, self.largest + 1), config.copies)
        held_out: list[Row] = []
        if job.held_out:  # as they are decoded: most compressed, the loss on what is written
            latent_id = job.model.latent_tags.latent_token_id
            made = self.rows(job, job.held_out, [self.largest], 1)[: config.eval_rows]
            held_out = [judged(row, latent_id) for row in made]
        losses = functools.partial(colar_losses, latent_loss=self.latent_loss)
        kind = functools.partial(CompressedTrainer, losses=losses)
        trainer = job.fit(rows, job.settings, f"sft {config.name}", kind=kind)
        result: dict[str, Any] = {"rows": len(rows), "skipped_steps": trainer.skipped_steps}
        if held_out:
            result["held_out"] = held_out_losses(job.model, held_out, pad)
        return result

    def rows(
        self,
        job: SFTJob,
        traces: Sequence[tuple[str, str]],
        factors: Sequence[int],
        copies: int,
    ) -> list[Row]:
        """See `training_rows`."""
        tags, config = job.model.latent_tags, job.config
        return training_rows(
            [(encode(job.tokenizer, prompt, tags), text) for prompt, text in traces],
            job.tokenizer,
            tags.latent_token_id,
            self,
            factors,
            copies=copies,
            seed=config.seed,
            max_length=config.max_length,
        )


def judged(row: Row, latent_id: int) -> Row:
    """A row whose loss is on what is written alone: slots have no label."""
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    return row | {"labels": [-100 if token == latent_id else label for token, label in pairs]}
