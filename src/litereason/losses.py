"""The LM head on chosen positions: losses and log-probabilities without a (batch, length, vocab) tensor."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from litereason import latent_forward
from litereason.model import backbone, causal_lm

LOGITS = 2**24  # logits that exist at a time: 64 MB in float32


def head(model: Any, hidden: Tensor) -> Tensor:
    """Logits `(..., vocab)` of last hidden states `(..., hidden_size)`, as the model's own forward."""
    config = model.config.get_text_config()
    logits = model.get_output_embeddings()(hidden)
    if scale := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scale
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        logits = torch.tanh(logits / cap) * cap
    return logits


class _ChunkedLoss(torch.autograd.Function):
    """Summed cross-entropy of `head(states)`, chunk by chunk; gradients are taken on the way forward.

    So a chunk's logits are gone before the next ones are made, and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        head_of: Callable[[Tensor], Tensor],
        states: Tensor,
        targets: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        wanted = [p for p in (states, *parameters) if p.requires_grad]
        total = states.new_zeros((), dtype=_wide(states.dtype))
        gradients = [torch.zeros_like(p) for p in wanted]
        size = _chunk(parameters)
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                chunk = states[part].detach().requires_grad_(states.requires_grad)
                logits = head_of(chunk)
                loss = functional.cross_entropy(
                    logits.to(total.dtype), targets[part], reduction="sum"
                )
            total += loss.detach()
            if not wanted:
                continue
            inputs = [chunk] if states.requires_grad else []
            inputs += [p for p in parameters if p.requires_grad]
            found = list(torch.autograd.grad(loss, inputs))
            if states.requires_grad:
                gradients[0][part] = found.pop(0)
            for gradient, more in zip(gradients[states.requires_grad :], found, strict=True):
                gradient += more
        ctx.which = [p.requires_grad for p in (states, *parameters)]
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        gradients = iter(ctx.saved_tensors)
        given = [next(gradients) if which else None for which in ctx.which]
        given = [None if g is None else g * upstream[0].to(g.dtype) for g in given]
        return None, given[0], None, *given[1:]


def next_token_loss(
    model: Any, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, threads: int = 1
) -> Tensor:
    """Sum of the cross-entropy over all positions whose label is not -100.

    Args:
        input_ids, attention_mask, labels: `(batch, length)`; `labels` as `input_ids`, unshifted.
        threads: groups of rows that run at the same time. Small models on a CPU use cores better so than
            with several threads inside each operation.
    """
    inner = causal_lm(model)
    groups = latent_forward.micro_batches(backbone(model), input_ids, attention_mask)

    def loss_of(rows: list[int]) -> Tensor:
        mask, ids, wanted = without_padding(rows, attention_mask, input_ids, labels)
        output = backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False)
        return label_loss(inner, output.last_hidden_state, wanted)

    return over_groups(inner, loss_of, groups, threads)


def without_padding(rows: list[int], mask: Tensor, *others: Tensor) -> list[Tensor]:
    """Some rows of `mask` and the other `(batch, length)` tensors, up to the last position of any."""
    chosen = mask[rows]
    end = int(chosen.any(0).nonzero().max()) + 1 if bool(chosen.any()) else mask.shape[1]
    return [tensor[rows, :end] for tensor in (mask, *others)]


def over_groups(
    model: Any, loss_of: Callable[[list[int]], Tensor], groups: list[list[int]], threads: int = 1
) -> Tensor:
    """Sum of `loss_of` over groups of rows, as a loss that keeps one group's graph at a time.

    Args:
        threads: groups that run at the same time.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if len(groups) == 1 or not trained or not torch.is_grad_enabled():
        return torch.stack([loss_of(rows) for rows in groups]).sum()
    return _GroupedLoss.apply(loss_of, groups, threads, *trained)  # pyright: ignore[reportReturnType]


def label_loss(model: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropy over all positions whose label is not -100.

    Args:
        hidden: last hidden states, `(batch, length, hidden_size)`.
        labels: `(batch, length)`, unshifted: a label is predicted by the state before it.
    """
    chosen = labels[:, 1:] != -100
    loss: Any = _ChunkedLoss.apply(
        lambda states: head(model, states),
        hidden[:, :-1][chosen],
        labels[:, 1:][chosen],
        *model.get_output_embeddings().parameters(),
    )
    return loss + hidden.sum() * 0.0  # keeps the graph when a batch has no label


class _GroupedLoss(torch.autograd.Function):
    """Sum of `loss_of` over groups of rows; a group's graph is gone before the next one is built."""

    @staticmethod
    def forward(
        ctx: Any,
        loss_of: Callable[[list[int]], Tensor],
        groups: list[list[int]],
        threads: int,
        *parameters: Tensor,
    ) -> Tensor:
        def run(rows: list[int]) -> tuple[Tensor, Sequence[Tensor | None]]:
            with torch.enable_grad():
                loss = loss_of(rows)
                return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

        totals, gradients = [], [torch.zeros_like(p) for p in parameters]
        with ThreadPoolExecutor(threads) as pool:
            for total, found in pool.map(run, groups) if threads > 1 else map(run, groups):
                totals.append(total)
                for gradient, more in zip(gradients, found, strict=True):
                    if more is not None:
                        gradient += more
        ctx.save_for_backward(*gradients)
        return torch.stack(totals).sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return None, None, None, *(g * upstream[0].to(g.dtype) for g in ctx.saved_tensors)


def _chunk(head_parameters: Sequence[Tensor]) -> int:
    """Positions per call of the LM head."""
    return max(1, LOGITS // head_parameters[0].shape[0])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type losses are computed in: float32 or better."""
    return dtype if dtype == torch.float64 else torch.float32


def completion_log_probs(
    model: Any,
    hidden: Tensor,
    targets: Tensor,
    temperature: float,
    banned: int | None,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each target under the state before it, `banned` outside the softmax.

    Args:
        hidden: states that predict, `(batch, length, hidden_size)`.
        targets: ids, `(batch, length)`; where they are `banned` the result is 0: no action there.
        temperature: that of sampling.
        banned: id that sampling never draws (the latent one), or None.
        with_entropy: also return the entropy in nats.

    Returns:
        (log-probabilities, entropies or None), both `(batch, length)`, float32 or better.
    """

    def of_chunk(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(model, states)
        logits = logits.to(_wide(logits.dtype)) / temperature
        if banned is not None:
            logits = logits.index_fill(1, torch.tensor([banned], device=ids.device), -torch.inf)
            ids = ids.masked_fill(ids == banned, 0)
        spread = logits.log_softmax(-1)
        with torch.no_grad():
            entropy = -(spread.exp() * spread).nansum(-1) if with_entropy else spread[:, 0]
        return spread.gather(1, ids[:, None])[:, 0], entropy

    log_probs, entropies = [], []
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    size = _chunk(list(model.get_output_embeddings().parameters()))
    for states, ids in zip(flat.split(size), wanted.split(size), strict=True):
        if len(flat) <= size:
            found, entropy = of_chunk(states, ids)
        else:  # computed again in the backward pass, so that no chunk's logits are kept
            found, entropy = checkpoint(of_chunk, states, ids, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
        log_probs.append(found)
        entropies.append(entropy)
    result = torch.cat(log_probs).view(targets.shape)
    if banned is not None:
        result = result.masked_fill(targets == banned, 0.0)
    return result, torch.cat(entropies).view(targets.shape) if with_entropy else None
