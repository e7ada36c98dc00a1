"""Rollouts of RL against `generate` on the expanded batch, and where the decoding time goes.

One group: a prompt of 1,024 positions, 8 completions of 64, SmolLM2-135M, float32, one thread. Ours
computes the prompt once and repeats its cache, in layers that grow in place; the peer is plain `generate`
on the same 8 rows, as TRL calls it. Neither stops early, so both make as many tokens. What is left out:
rows that finish early (ours drops them), rewards, training.
"""

import torch
from transformers import GenerationConfig

from harness import as_rates, interleaved, plain_and_latent, report_pairs, text_ids
from litereason.rollout import draws, roll_out

GROUP, PROMPT, NEW = 8, 1024, 64


def main() -> None:
    plain, model, tokenizer = plain_and_latent()
    prompt = text_ids(tokenizer, 1, PROMPT)
    config = GenerationConfig(
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        disable_compile=True,
    )
    uniform = draws((0,), range(GROUP), NEW)

    def ours() -> None:
        made = roll_out(model, [prompt[0].tolist()] * GROUP, config, uniform)
        assert all(len(rollout.ids) == NEW for rollout in made)

    def stock() -> None:
        torch.manual_seed(0)
        rows = prompt.expand(GROUP, -1)
        made = plain.generate(rows, attention_mask=torch.ones_like(rows), generation_config=config)
        assert made.shape == (GROUP, PROMPT + NEW)

    tokens = GROUP * NEW
    rates = as_rates(interleaved(ours, stock, 3, warm_up=1), tokens, tokens)
    report_pairs(
        "rollout, prompt 1024", "generate, expanded batch", rates, ">= 2", "tokens per CPU s"
    )


if __name__ == "__main__":
    main()
