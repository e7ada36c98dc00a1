"""Traces without the sentences that the prompt tells by itself: `litereason collect --prune`.

What reasoning adds to a sentence is how much likelier, in nats a token, it is after the reasoning before
it than right after the prompt. A sentence to which it adds nothing restates the prompt or fills space, and
needs neither words nor latent steps; what is worked out from it can be worked out from the prompt. The
first token is not counted: it says which sentence comes (a number, a "Then"), and a later one may start
like no first one does.

The judge is the policy itself, on what it wrote. A first step that does compute something follows from the
prompt alone as well, and is left out with the rest: whether a policy can do without is to be tried.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch

from litereason import cost
from litereason.console import progress
from litereason.errors import ConfigError
from litereason.losses import completion_log_probs
from litereason.policy_pass import completion_states
from litereason.traces import places_of, replaceable, split_sentences


@dataclasses.dataclass(frozen=True)
class Pruned:
    """The texts that are left; how many sentences there were, and were left out; what finding them cost."""

    texts: list[str]
    sentences: int
    left_out: int
    cost: cost.Cost


def prune(
    model: Any,
    tokenizer: Any,
    traces: Sequence[tuple[list[int], str]],
    least: float,
    batch_size: int = 16,
) -> Pruned:
    """Each trace without the sentences to which its reasoning adds less than `least` nats a token.

    Args:
        model: the policy that wrote them, without latent steps.
        traces: (encoded prompt, completion text) pairs.
        least: nats a token; the answer's sentence stays, whatever it gains.
        batch_size: sentences at once.

    Raises:
        ConfigError: a tokenizer that does not say which characters a token is.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            f"--prune: {type(tokenizer).__name__} does not say which characters a token is; "
            "use a fast tokenizer"
        )
    texts, there, left_out, positions = [], 0, 0, 0
    start = time.perf_counter()
    with progress() as bar:
        task = bar.add_task("prune", total=len(traces), note="")
        for prompt, text in traces:
            sentences = split_sentences(text)
            free = replaceable(sentences)
            added = gains(model, tokenizer, prompt, text, batch_size)
            out = {i for i in free if (gain := added[i]) is not None and gain < least}
            texts.append("".join(s for i, s in enumerate(sentences) if i not in out))
            there, left_out = there + len(free), left_out + len(out)
            # the prompt once, the trace as a whole and its sentences one by one
            positions += len(prompt) + 2 * len(
                tokenizer(text, add_special_tokens=False)["input_ids"]
            )
            bar.advance(task)
    flops = 2.0 * cost.weights(model) * positions
    taken = cost.Cost(0, 0, positions, 0, flops, time.perf_counter() - start)
    return Pruned(texts, there, left_out, taken)


@torch.no_grad()
def gains(
    model: Any, tokenizer: Any, prompt: list[int], text: str, batch_size: int = 16
) -> list[float | None]:
    """What the reasoning before each sentence of `text` adds to it, nats a token.

    Returns:
        One for each of `split_sentences(text)`; None where there is nothing to count: less than two tokens.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    places = places_of(text, split_sentences(text), tokenizer)
    begins, end = (
        [],
        0,
    )  # each sentence with the white space in front, where that has tokens of its own
    for place in places:
        begins.append(min(end, place.start))
        end = max(end, place.stop)
    counted = [i for i, place in enumerate(places) if len(ids[place]) > 1]
    [whole] = log_probs(model, prompt, [ids])
    added: list[float | None] = [None] * len(places)
    for start in range(0, len(counted), batch_size):
        part = counted[start : start + batch_size]
        passages = [ids[begins[i] : places[i].stop] for i in part]
        for i, alone in zip(part, log_probs(model, prompt, passages), strict=True):
            first = places[i].start + 1
            gain = whole[first : places[i].stop] - alone[first - begins[i] :]
            added[i] = gain.mean().item()
    return added


def log_probs(model: Any, prompt: list[int], passages: Sequence[list[int]]) -> list[torch.Tensor]:
    """Log-probability of each token of each passage after the prompt, which is computed once."""
    keep = max(map(len, passages))
    rows = torch.tensor([[*prompt, *ids, *[0] * (keep - len(ids))] for ids in passages])
    mask = torch.tensor([[1] * (len(prompt) + len(p)) + [0] * (keep - len(p)) for p in passages])
    rows, mask = rows.to(model.device), mask.to(model.device)
    states = completion_states(model, rows, mask, keep)
    found, _ = completion_log_probs(model, states, rows[:, -keep:], 1.0, None)
    return [row[: len(ids)] for row, ids in zip(found, passages, strict=True)]
