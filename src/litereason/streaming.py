"""A completion as it is made: text to the terminal, a dot for every latent step."""

import sys
from collections.abc import Sequence
from typing import Any, TextIO

import torch
from transformers import TextStreamer

from litereason import checkpoints
from litereason import model as latent
from litereason.config import LatentConfig
from litereason.errors import ConfigError
from litereason.generation import read_completion
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids
from litereason.tags import Tags

DOT = "●"


class LatentStreamer(TextStreamer):
    """Streams text as `TextStreamer` does and shows each latent step as a dot."""

    def __init__(self, tokenizer: Any, tags: Tags, out: TextIO | None = None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.latent_id = tags.latent_token_id
        self.out = out or sys.stdout

    def put(self, value: torch.Tensor) -> None:
        """Take the newest ids; the first call is the prompt."""
        if self.next_tokens_are_prompt:
            super().put(value.flatten())
            return
        for token in value.flatten().split(1):
            if int(token) == self.latent_id:
                self._show_held_back()
                print(DOT, end="", flush=True, file=self.out)
            else:
                super().put(token)

    def _show_held_back(self) -> None:
        """Print what is complete: a thought starts only after a tag."""
        if self.token_cache:
            text = self.tokenizer.decode(self.token_cache, **self.decode_kwargs)
            self.on_finalized_text(str(text[self.print_len :]))
            self.print_len = len(text)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print what is certain."""
        print(text, end="", flush=True, file=self.out)

    def end(self) -> None:
        """Print the rest and a line break."""
        super().end()
        print(file=self.out)


def dotted(model: Any, ids: Sequence[int]) -> str:
    """The text of `ids`, a dot for each latent step."""
    spans = read_completion(ids, model.latent_tags.tokenizer, model.latent_tags).spans
    return "".join(DOT * len(s.ids) if s.kind == "latent" else s.text for s in spans)


def stream(
    model: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    prefix: str = "",
    max_thoughts: int | None = None,
    max_latent_steps: int | None = None,
) -> None:
    """Load a model, answer one prompt on stdout; `prefix` is put at the start of the answer.

    Raises:
        ConfigError: an empty prompt.
        ModelError: the model cannot be loaded, or cannot take latent steps.
        DataError: the prompt does not fit the context.
    """
    SamplingConfig(
        samples=1,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_thoughts=max_thoughts,
        max_latent_steps=max_latent_steps,
    )
    if not prompt.strip():
        raise ConfigError("--prompt is empty; give the message to answer")
    lm, tokenizer = checkpoints.load(model)
    if not latent.has_latents(lm):
        lm = latent.attach(lm, tokenizer, LatentConfig(projector="rms"))  # untrained, but in range
    head = encode(tokenizer, prompt, lm.latent_tags)
    ids = head + prefix_ids(lm, tokenizer, prefix)
    check_lengths(lm, ["--prompt"], [ids], max_new_tokens)
    draw: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        draw = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    torch.manual_seed(seed)
    print(dotted(lm, ids[len(head) :]), end="", flush=True)
    lm.generate(
        input_ids=torch.tensor([ids], device=lm.device),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=lm.device),
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id or 0,
        streamer=LatentStreamer(tokenizer, lm.latent_tags),
        max_thoughts=max_thoughts,
        max_latent_steps=max_latent_steps,
        **draw,
    )
