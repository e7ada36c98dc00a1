"""The method as a loop that can be checked by eye: one sequence, no cache, no batch, no padding.

arXiv 2512.02240, section 3, line by line. Everything fast in the package is compared with this.
"""

import re

import torch
from torch import Tensor

from litereason.model import backbone

TAG = re.compile(r"<implicit_thought>\s*([0-9]+)\s*</implicit_thought>\Z")


def inputs_of(model, ids: list[int]) -> Tensor:
    """Input embeddings `(length, width)`: e(x), or P(last hidden state) at a latent slot."""
    embedding = model.get_input_embeddings()
    rows: list[Tensor] = []
    for token in ids:
        if token == model.latent_config.latent_token_id:
            rows.append(model.latent_projector(hidden_of(model, torch.stack(rows))[-1]))
        else:
            rows.append(embedding(torch.tensor(token)))
    return torch.stack(rows)


def hidden_of(model, inputs: Tensor) -> Tensor:
    """Last hidden states `(length, width)` of input embeddings, in one uncached pass."""
    return backbone(model)(inputs_embeds=inputs[None], use_cache=False).last_hidden_state[0]


def log_probs_of(model, ids: list[int]) -> Tensor:
    """`(length - 1,)`: log-probability of ids[1:], the latent id outside the softmax."""
    logits = model(inputs_embeds=inputs_of(model, ids)[None], use_cache=False).logits[0].clone()
    logits[:, model.latent_config.latent_token_id] = -torch.inf
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@torch.no_grad()
def greedy(model, tokenizer, prompt: list[int], new: int) -> list[int]:
    """Greedy completion of `prompt`, latent slots included."""
    latent = model.latent_config.latent_token_id
    ids, owed = list(prompt), owed_by_prompt(model, tokenizer, prompt)
    while len(ids) < len(prompt) + new:
        if owed:
            ids.append(latent)
            owed -= 1
            continue
        inputs = inputs_of(model, ids)[None]
        logits = model(inputs_embeds=inputs, use_cache=False).logits[0, -1].clone()
        logits[latent] = -torch.inf
        token = int(logits.argmax())
        ids.append(token)
        if token == tokenizer.eos_token_id:
            break
        owed = steps_after(model, tokenizer, ids)
    return ids[len(prompt) :]


def steps_after(model, tokenizer, ids: list[int]) -> int:
    """The N of a tag that the text ends with, after the last latent slot."""
    latent = model.latent_config.latent_token_id
    start = len(ids) - ids[::-1].index(latent) if latent in ids else 0
    found = TAG.search(tokenizer.decode(ids[start:]))
    return min(int(found[1]), model.latent_config.max_latent_steps) if found else 0


def owed_by_prompt(model, tokenizer, prompt: list[int]) -> int:
    """Steps that a half-finished thought at the prompt's end still owes."""
    latent = model.latent_config.latent_token_id
    done = 0
    while done < len(prompt) and prompt[-1 - done] == latent:
        done += 1
    return max(0, steps_after(model, tokenizer, prompt[: len(prompt) - done]) - done)
