"""How likely a text is after a prompt, under a frozen reference model.

A prompt's keys and values are computed once; each passage then goes over a copy of them alone. A passage is
about a chapter long, so that a batch of several would be no faster, would need padding, and would hold the
prompt's cache once for each. What is left out: what is read and what it earns (`tasks/next_chapter.py`).
"""

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer
from transformers.cache_utils import DynamicCache

from litereason import checkpoints, files, latent_forward
from litereason.errors import ModelError, RewardError
from litereason.fingerprint import fingerprint
from litereason.losses import completion_log_probs
from litereason.model import backbone, detach, has_latents
from litereason.models import cache_dir, resolve
from litereason.policy_pass import rows_of

SCORING = 1  # raise it when `losses` gives other values, so that old files are not read


class Passage(NamedTuple):
    """What follows a prompt, as ids: `lead` is read, `text` is scored; `keep` its loss on disk."""

    lead: list[int]
    text: list[int]
    keep: bool = False


class Reference:
    """A frozen causal LM, loaded when it is first needed.

    Args:
        name: a path, a hub id, or a name that `litereason get` knows. Latent steps, if it has any, are
            taken off.
        cache: where losses are kept; default: `likelihood` in the cache of `litereason get`.
    """

    def __init__(self, name: str, cache: str | Path | None = None) -> None:
        self.name = name
        self.cache = Path(cache).expanduser() if cache else cache_dir() / "likelihood"

    @functools.cached_property
    def tokenizer(self) -> Any:
        try:
            return AutoTokenizer.from_pretrained(resolve(self.name))
        except checkpoints.BROKEN as error:
            raise ModelError(f"cannot load the reference's tokenizer: {error}") from error

    @functools.cached_property
    def context(self) -> float:
        """Positions that the model can hold; infinite where its config names no bound."""
        try:
            config = AutoConfig.from_pretrained(resolve(self.name))
        except checkpoints.BROKEN as error:
            raise ModelError(f"cannot load the reference's config: {error}") from error
        return getattr(config.get_text_config(), "max_position_embeddings", None) or math.inf

    @functools.cached_property
    def model(self) -> Any:
        model, _ = checkpoints.load(self.name)
        if has_latents(model):
            model = detach(model)
        return checkpoints.to_own_device(model).requires_grad_(False).eval()

    @functools.cached_property
    def digest(self) -> str:
        found = fingerprint(self.model)
        return f"{found['digest']} {found['dtype']}"

    def ids(self, text: str, start: bool = False) -> list[int]:
        """Token ids of a piece of text; the piece at the `start` gets what the tokenizer begins with."""
        return self.tokenizer(text, add_special_tokens=start)["input_ids"]

    def losses(self, prompt: Sequence[int], passages: Sequence[Passage]) -> list[float]:
        """Mean cross-entropy of each passage's `text` after prompt and lead, nats a token.

        Raises:
            RewardError: one is not finite.
        """
        places = [self._place(prompt, passage) for passage in passages]
        known = {i: files.read_json(p)["loss"] for i, p in enumerate(places) if p and p.is_file()}
        missing = [i for i in range(len(passages)) if i not in known]
        found = self._computed(prompt, [passages[i] for i in missing]) if missing else []
        for i, loss in zip(missing, found, strict=True):
            known[i] = loss
            if not math.isfinite(loss):
                raise RewardError(f"the reference {self.name!r} gives a loss of {loss}")
            if place := places[i]:
                files.write_json(place, {"loss": loss, "reference": self.name})
        return [known[i] for i in range(len(passages))]

    def _place(self, prompt: Sequence[int], passage: Passage) -> Path | None:
        """The file of a loss that is kept."""
        if not passage.keep:
            return None
        told = json.dumps([SCORING, self.digest, list(prompt), passage.lead, passage.text])
        name = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
        return self.cache / f"{name}.json"

    @torch.no_grad()
    def _computed(self, prompt: Sequence[int], passages: Sequence[Passage]) -> list[float]:
        spine, device = backbone(self.model), self.model.device
        cache = DynamicCache(config=self.model.config)
        last = spine(
            input_ids=torch.tensor([list(prompt)], device=device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1:]
        losses = []
        for lead, text, _ in passages:
            hidden = spine(
                input_ids=torch.tensor([lead + text], device=device),
                attention_mask=self._additive_mask(len(prompt), len(lead + text)),
                past_key_values=rows_of(cache, slice(None)),
                use_cache=True,
            ).last_hidden_state
            states = torch.cat([last, hidden[:, :-1]], 1)[:, -len(text) :]
            targets = torch.tensor([text], device=device)
            log_probs, _ = completion_log_probs(self.model, states, targets, 1.0, None)
            losses.append(-log_probs.mean().item())
        return losses

    def _additive_mask(self, past: int, new: int) -> Tensor | None:
        """Who sees whom, `(1, 1, new, past + new)`, as the numbers that PyTorch's attention adds.

        Left alone, a model hands over truth values, and every layer makes these numbers of them anew: on
        a CPU a third of what attention costs. None where a model needs masks of its own.
        """
        config = self.model.config.get_text_config()
        own = latent_forward.has_sliding_window(backbone(self.model)) or getattr(
            config, "alibi", False
        )
        if own or config._attn_implementation != "sdpa":
            return None
        mask = torch.full((new, past + new), -torch.inf, dtype=self.model.dtype)
        return mask.triu(past + 1)[None, None].to(self.model.device)
