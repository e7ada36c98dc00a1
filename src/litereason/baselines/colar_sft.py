"""CoLaR's fine-tuning: the next compressed embedding, a token of it, and the answer (arXiv 2505.16552).

Groups of r consecutive embeddings of a trace are summed and divided by sqrt(r), which keeps their
variance, and stand where the trace stood. One parallel pass, teacher-forced, learns three things: the
latent head the Gaussian of the next compressed embedding, the LM head a random token of the next group
(so that it can say when to end), and the answer after the end marker. Left out: the entropy term that the
paper adds to its MSE.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from litereason.baselines.colar import LARGEST, Colar, Frame, check_head
from litereason.errors import ConfigError, DataError
from litereason.latent_forward import embed
from litereason.losses import label_loss
from litereason.model import backbone, causal_lm, projector_of
from litereason.sft import ProjectorConfig, ProjectorTrainer, right_padded
from litereason.traces import reasoning_and_answer
from litereason.trainers import use_our_callbacks, whole_checkpoint

LATENT_LOSSES = ("nll", "mse")
# `input_ids` with a latent slot for every group and `labels`, as other rows; `reasoning`, the ids that
# the slots stand for, and `groups`, the slot of each.
Row = dict[str, list[int]]


def training_rows(
    traces: Iterable[tuple[list[int], str]],
    tokenizer: Any,
    latent_id: int,
    *,
    copies: int = 5,
    largest: int = LARGEST,
    opening: str = Colar.opening,
    closing: str = Colar.closing,
    seed: int = 0,
    max_length: int = 4096,
) -> list[Row]:
    """Rows of compressed reasoning, each at a factor drawn from 1 to `largest`.

    Args:
        traces: (encoded prompt, completion text) pairs.
        latent_id: id of the latent slots.
        copies: rows per trace.
        max_length: longer rows are left out.

    Raises:
        ConfigError: a wording or factor that cannot work.
        DataError: no row is left.
    """
    if type(largest) is not int or largest < 1:
        raise ConfigError(f"largest is {largest!r}; expected an integer of at least 1")
    rng = random.Random(seed)
    wording = {"opening": opening, "closing": closing}
    frames = [Colar(r=r, **wording).frame(tokenizer) for r in range(1, largest + 1)]
    rows = []
    for prompt, text in traces:
        parts = reasoning_and_answer(text)
        reasoning, answer = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in parts)
        for _ in range(copies):
            r = rng.randint(1, largest)
            ended = [*answer, tokenizer.eos_token_id]
            row = make_row(prompt, reasoning, ended, r, frames[r - 1], latent_id, rng)
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


def collate(batch: Sequence[Row], pad_token_id: int) -> dict[str, Tensor]:
    """Rows as tensors: as `right_padded`; `reasoning` and `groups` of all rows in a line, `(tokens,)`."""
    groups: list[int] = []
    for row in batch:
        first = groups[-1] + 1 if groups else 0
        groups += [first + group for group in row["groups"]]
    reasoning = torch.tensor([i for row in batch for i in row["reasoning"]], dtype=torch.long)
    groups_of = torch.tensor(groups, dtype=torch.long)
    return right_padded(batch, pad_token_id) | {"reasoning": reasoning, "groups": groups_of}


def compress(embeds: Tensor, groups: Tensor) -> Tensor:
    """Each group's sum, divided by the square root of its size.

    Args:
        embeds: `(tokens, width)`.
        groups: the group of each, `(tokens,)`: 0, 0, 1, 1, 2...

    Returns:
        `(groups, width)`.
    """
    sizes = torch.bincount(groups)
    sums = embeds.new_zeros(len(sizes), embeds.shape[1]).index_add(0, groups, embeds)
    return sums / sizes.to(embeds.dtype).sqrt()[:, None]


def colar_losses(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    reasoning: Tensor,
    groups: Tensor,
    latent_loss: str = "nll",
) -> tuple[Tensor, Tensor]:
    """(cross-entropy, mean over labels; latent loss, mean over slots and dimensions) of a batch.

    The latent loss is the negative log-density of the compressed embeddings (`nll`), or the mean's squared
    error (`mse`), both in units of the token embeddings' standard deviation. As targets they are
    constants: the embeddings are not trained to be easy to predict.

    Args:
        input_ids, attention_mask, labels, reasoning, groups: see `collate`.
    """
    spine, head = backbone(model), projector_of(model)
    slots = (input_ids == spine.latent_token_id) & attention_mask.bool()
    compressed = compress(embed(spine, reasoning), groups)
    embeds = embed(spine, input_ids).masked_scatter(slots[..., None], compressed)
    hidden = spine(
        inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    count = (labels[:, 1:] != -100).sum().clamp(min=1)
    tokens = label_loss(causal_lm(model), hidden, labels) / count
    if not len(compressed):
        return tokens, tokens.new_zeros(())
    states, targets = hidden[:, :-1][slots[:, 1:]].to(head.out.weight.dtype), compressed.detach()
    if latent_loss == "nll":
        return tokens, -head.log_density(states, targets).mean()
    mean, _ = head.gaussian(states)
    return tokens, (targets.to(mean.dtype) / head.scale.to(mean.dtype) - mean).pow(2).mean()


class ColarTrainer(ProjectorTrainer):
    """`ProjectorTrainer` on rows of compressed reasoning: both losses, added up.

    Args:
        rows: see `training_rows`.
        latent_loss: `nll` (the paper's; it alone trains the spread that sampling and RL need), or `mse`.
        kwargs: passed to `ProjectorTrainer`.

    Raises:
        ModelError: the model has no latent head.
    """

    def __init__(
        self,
        model: Any,
        args: ProjectorConfig,
        rows: Sequence[Row],
        pad_token_id: int,
        latent_loss: str = "nll",
        **kwargs: Any,
    ) -> None:
        check_head(model)
        if latent_loss not in LATENT_LOSSES:
            raise ConfigError(f"latent_loss is {latent_loss!r}; expected 'nll' or 'mse'")
        super().__init__(model, args, rows, pad_token_id, **kwargs)
        self.latent_loss = latent_loss
        self.data_collator = lambda batch: collate(batch, pad_token_id)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Cross-entropy + latent loss of the batch."""
        inner = self.accelerator.unwrap_model(model)
        tokens, latents = colar_losses(inner, **inputs, latent_loss=self.latent_loss)
        loss = tokens + latents.to(tokens.dtype)
        return (loss, {}) if return_outputs else loss


def train(
    config: Any,
    settings: ProjectorConfig,
    directory: Path,
    model: Any,
    tokenizer: Any,
    traces: Sequence[tuple[list[int], str]],
    *,
    latent_loss: str = "nll",
    largest: int = LARGEST,
    opening: str = Colar.opening,
    closing: str = Colar.closing,
) -> dict[str, Any]:
    """Train `model` on `traces`, from the newest checkpoint of `directory` on; what was done.

    Args:
        config: an `SFTConfig`: `name`, `copies`, `seed`, `max_length`.
        traces: (encoded prompt, completion text) pairs.
        latent_loss, largest, opening, closing: see `ColarTrainer` and `training_rows`.
    """
    check_head(model)
    rows = training_rows(
        traces,
        tokenizer,
        model.latent_tags.latent_token_id,
        copies=config.copies,
        largest=largest,
        opening=opening,
        closing=closing,
        seed=config.seed,
        max_length=config.max_length,
    )
    trainer = ColarTrainer(model, settings, rows, tokenizer.pad_token_id, latent_loss)
    use_our_callbacks(trainer, f"sft {config.name}", directory / "metrics.jsonl")
    trainer.train(resume_from_checkpoint=whole_checkpoint(directory / "checkpoints"))
    return {"rows": len(rows), "skipped_steps": trainer.skipped_steps}
