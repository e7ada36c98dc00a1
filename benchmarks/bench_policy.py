"""The policy pass of RL, forward and backward, against TRL's stock GRPOTrainer on the same batch.

One group: a prompt of 1,024 positions, 8 completions of 64 with a thought of 3 steps each (the peer
reads plain text). Ours computes the prompt once. The peer takes 2 rows at a time, because its graph
for 8 does not fit beside others in 24 GB. All weights train, float32. What is left out: rollouts,
rewards, the optimiser.
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from harness import as_rates, interleaved, plain_and_latent, report_pairs, text_ids
from litereason.losses import completion_log_probs
from litereason.policy_pass import completion_states

GROUP, PROMPT, NEW, ROWS_AT_ONCE = 8, 1024, 64, 2


def stock_trainer(model: Any, tokenizer: Any) -> Any:
    """TRL's trainer as it comes, for its policy pass."""
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        per_device_train_batch_size=GROUP,
        num_generations=GROUP,
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
    )
    data = Dataset.from_dict({"prompt": ["a"] * GROUP})
    return GRPOTrainer(model, lambda completions, **_: [0.0] * len(completions), config, data,
                       processing_class=tokenizer)  # fmt: skip


def main() -> None:
    """Check that both give the same log-probabilities without thoughts, then measure."""
    plain, model, tokenizer = plain_and_latent()
    trainer = stock_trainer(plain, tokenizer)
    model.latent_projector.requires_grad_(False)
    texts = text_ids(tokenizer, GROUP, PROMPT + NEW)
    prompt = texts[:1, :PROMPT].expand(GROUP, -1)
    text = torch.cat([prompt, texts[:, PROMPT:]], 1)
    ids, mask = text.clone(), torch.ones_like(text)
    for row in range(GROUP):
        ids[row, PROMPT + 8 + 5 * row : PROMPT + 11 + 5 * row] = model.latent_tags.latent_token_id
    weights = torch.linspace(-1, 1, GROUP * NEW).view(GROUP, NEW)

    def ours(batch: torch.Tensor = ids) -> torch.Tensor:
        states = completion_states(model, batch, mask, NEW)
        banned = model.latent_tags.latent_token_id
        found, _ = completion_log_probs(model, states, batch[:, -NEW:], 1.0, banned)
        (found * weights).sum().backward()
        model.zero_grad()
        return found.detach()

    def stock() -> torch.Tensor:
        parts = []
        for k in range(0, GROUP, ROWS_AT_ONCE):
            rows = slice(k, k + ROWS_AT_ONCE)
            found = trainer._get_per_token_logps_and_entropies(plain, text[rows], mask[rows], NEW)[
                0
            ]
            (found * weights[rows]).sum().backward()
            parts.append(found.detach())
        plain.zero_grad()
        return torch.cat(parts)

    # the latent id is outside our softmax, which changes nothing to speak of here
    torch.testing.assert_close(ours(text), stock(), rtol=2e-3, atol=2e-3)
    rates = as_rates(interleaved(ours, stock, 2, warm_up=0))
    report_pairs("policy pass, prompt 1024", "TRL's GRPOTrainer", rates, ">= 4", "groups per CPU s")


if __name__ == "__main__":
    main()
