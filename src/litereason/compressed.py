"""Latents that are told what to be: some tokens' embeddings, summed up to one.

CoLaR (`baselines/colar_sft.py`) and distilled thoughts (`distil.py`) train in one parallel pass, in which
such sums stand in the latent slots. Rows then say what their slots stand for: `reasoning`, token ids, and
`groups`, the slot of each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from litereason.latent_forward import embed, micro_batches
from litereason.losses import over_groups, without_padding
from litereason.model import backbone, causal_lm
from litereason.sft import ProjectorConfig, ProjectorTrainer, Row, right_padded


def collate(batch: Sequence[Row], pad_token_id: int) -> dict[str, Tensor]:
    """Rows as tensors: as `right_padded`; `reasoning` and `groups` of all rows in a line, `(tokens,)`."""
    groups: list[int] = []
    for row in batch:
        first = groups[-1] + 1 if groups else 0
        groups += [first + group for group in row["groups"]]
    reasoning = torch.tensor([i for row in batch for i in row["reasoning"]], dtype=torch.long)
    groups_of = torch.tensor(groups, dtype=torch.long)
    return right_padded(batch, pad_token_id) | {"reasoning": reasoning, "groups": groups_of}


def part(
    rows: list[int],
    latent_id: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    reasoning: Tensor,
    groups: Tensor,
) -> dict[str, Tensor]:
    """Some rows, in ascending order, of what `collate` gives, without the padding that they need not."""
    slots = ((input_ids == latent_id) & attention_mask.bool()).sum(1)
    every = torch.arange(len(slots), device=slots.device)
    owner = every.repeat_interleave(slots)[groups]  # the row of each token of `reasoning`
    own = torch.isin(owner, every[rows])
    mask, ids, wanted = without_padding(rows, attention_mask, input_ids, labels)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": wanted,
        "reasoning": reasoning[own],
        "groups": groups[own].unique_consecutive(return_inverse=True)[1],
    }


def compress(embeds: Tensor, groups: Tensor) -> Tensor:
    """Each group's sum, divided by the square root of its size, which keeps the variance.

    Args:
        embeds: `(tokens, width)`.
        groups: the group of each, `(tokens,)`: 0, 0, 1, 1, 2...

    Returns:
        `(groups, width)`.
    """
    sizes = torch.bincount(groups)
    sums = embeds.new_zeros(len(sizes), embeds.shape[1]).index_add(0, groups, embeds)
    return sums / sizes.to(embeds.dtype).sqrt()[:, None]


def in_order(embeds: Tensor, groups: Tensor) -> Tensor:
    """Embeddings turned by their place in their group, so that the group's sum keeps its order.

    The k-th (from 0) is shifted by k dimensions, the last ones to the front. A shifted embedding is
    nearly orthogonal to all others, so that the sum of a few can be read (Plate 1995, holographic
    reduced representations; here a fixed permutation binds the place).

    Args:
        embeds, groups: see `compress`.

    Returns:
        As `embeds`.
    """
    count, width = embeds.shape
    sizes = torch.bincount(groups)
    first = sizes.cumsum(0) - sizes
    place = torch.arange(count, device=groups.device) - first[groups]
    column = torch.arange(width, device=groups.device)
    return embeds.gather(1, (column[None] - place[:, None]) % width)


def parallel_pass(
    model: Any, input_ids: Tensor, attention_mask: Tensor, latents: Tensor
) -> tuple[Tensor, Tensor]:
    """One parallel pass with `latents` in the slots.

    Args:
        input_ids, attention_mask: `(batch, length)`, padded on the right.
        latents: `(slots, width)`, in order of rows and places.

    Returns:
        (last hidden states `(batch, length, width)`; those that each slot follows `(slots, width)`, which
        the projector turns into it).
    """
    spine = backbone(model)
    slots = (input_ids == spine.latent_token_id) & attention_mask.bool()
    embeds = embed(spine, input_ids).masked_scatter(slots[..., None], latents)
    hidden = spine(
        inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    return hidden, hidden[:, :-1][slots[:, 1:]]


class CompressedTrainer(ProjectorTrainer):
    """`ProjectorTrainer` on rows that say what their slots stand for (see `collate`).

    Args:
        losses: (model, what `collate` gives) -> (cross-entropy, summed over labels; loss of the latents,
            summed over slots).
        weight: of the latents' loss beside the cross-entropy.
        kwargs: passed to `ProjectorTrainer`.
    """

    def __init__(
        self,
        model: Any,
        args: ProjectorConfig,
        rows: Sequence[Row],
        pad_token_id: int,
        losses: Callable[..., tuple[Tensor, Tensor]],
        weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, args, rows, pad_token_id, **kwargs)
        self.losses, self.weight = losses, weight
        self.data_collator = lambda batch: collate(batch, pad_token_id)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean cross-entropy over labels + `weight` times the mean of the latents' loss over slots."""
        inner = self.accelerator.unwrap_model(model)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        spine = backbone(inner)
        labels = (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
        slots = ((ids == spine.latent_token_id) & mask.bool()).sum().clamp(min=1)

        def loss_of(rows: list[int]) -> Tensor:
            tokens, latents = self.losses(inner, **part(rows, spine.latent_token_id, **inputs))
            return tokens / labels + self.weight * latents.to(tokens.dtype) / slots

        groups = micro_batches(spine, ids, mask, parallel=True)
        loss = over_groups(causal_lm(inner), loss_of, groups, self.args.group_threads)  # pyright: ignore[reportAttributeAccessIssue]
        return (loss, {}) if return_outputs else loss
