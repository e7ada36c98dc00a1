"""The LM head on chosen positions: losses and log-probabilities without a (batch, length, vocab) tensor."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 2048  # positions per call of the LM head


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


def next_token_loss(
    model: Any, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> Tensor:
    """Sum of the cross-entropy over all positions whose label is not -100.

    Args:
        input_ids, attention_mask, labels: `(batch, length)`; `labels` as `input_ids`, unshifted.
    """
    hidden = model.base_model(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    chosen = labels[:, 1:] != -100
    hidden, targets = hidden[:, :-1][chosen], labels[:, 1:][chosen]
    total = hidden.sum() * 0.0  # keeps the graph when a batch has no label
    for states, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
        logits = head(model, states).float()
        total = total + functional.cross_entropy(logits, wanted, reduction="sum")
    return total


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
    log_probs, entropies = [], []
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    for states, ids in zip(flat.split(CHUNK), wanted.split(CHUNK), strict=True):
        logits = head(model, states)
        logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
        if banned is not None:
            logits = logits.index_fill(1, torch.tensor([banned], device=ids.device), -torch.inf)
            ids = ids.masked_fill(ids == banned, 0)
        spread = logits.log_softmax(-1)
        log_probs.append(spread.gather(1, ids[:, None])[:, 0])
        if with_entropy:
            with torch.no_grad():
                entropies.append(-(spread.exp() * spread).nansum(-1))
    result = torch.cat(log_probs).view(targets.shape)
    if banned is not None:
        result = result.masked_fill(targets == banned, 0.0)
    return result, torch.cat(entropies).view(targets.shape) if with_entropy else None
