"""Latent steps attached but not used: `generate` against the same model without them.

Greedy, float32, prompts of 64 tokens and 48 new ones, batches of 4 and of 1. No text holds a tag,
and both models must write the same ids. What is left out: GPUs, where launch times weigh more.
"""

import torch

from harness import interleaved, plain_and_latent, report_pairs, text_ids

PROMPT, NEW = 64, 48


def main() -> None:
    """Measure both batch sizes."""
    plain, latent, tokenizer = plain_and_latent()
    for batch, repeats in ((4, 5), (1, 7)):
        ids = text_ids(tokenizer, batch, PROMPT)
        written = {}

        def write(model, ids=ids, written=written) -> None:
            written[model] = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=NEW,
                max_new_tokens=NEW,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )

        pairs = interleaved(lambda w=write: w(latent), lambda w=write: w(plain), repeats)
        if not torch.equal(written[latent], written[plain]):
            raise AssertionError("the two models wrote different texts; nothing to compare")
        if written[latent].shape[1] != PROMPT + NEW:
            raise AssertionError(f"expected {NEW} new tokens, got {tuple(written[latent].shape)}")
        report_pairs(f"unused, batch {batch}", "plain generate", pairs, "<= 1.05")


if __name__ == "__main__":
    main()
