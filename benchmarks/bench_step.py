"""A whole optimiser step of RL, rollouts included, against TRL's stock GRPOTrainer.

One group: a prompt of about 1,024 tokens, 8 completions of 64 (no row stops early), all weights train,
AdamW, float32, one thread, SmolLM2-135M. The peer takes 2 rows at a time in its policy pass, because its
graph for 8 does not fit beside others in 24 GB; ours takes all 8. The time is that of a whole `train()`
of one step. What is left out: thoughts (the peer has none), the projector refresh.
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from harness import STORY, as_rates, interleaved, plain_and_latent, report_pairs
from litereason.grpo import LatentGRPOConfig, LatentGRPOTrainer
from litereason.tasks.base import Example, Task

GROUP, PROMPT, NEW, ROWS_AT_ONCE = 8, 1024, 64, 2
SHARED = {
    "use_cpu": True,
    "num_generations": GROUP,
    "max_completion_length": NEW,
    "generation_kwargs": {"min_new_tokens": NEW},
    "max_steps": 1,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "bf16": False,
    "beta": 0.0,
    "report_to": "none",
    "disable_tqdm": True,
}


class Prompt(Task):
    """One long prompt; every other completion earns 1."""

    name = "prompt"

    def __init__(self, text: str) -> None:
        self.text, self.calls = text, 0

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        return [Example("long", self.text, "")]

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return example.text

    def reward(self, example: Example, completion: str) -> float:
        self.calls += 1
        return float(self.calls % 2)


def long_text(tokenizer: Any) -> str:
    """Prose of about PROMPT tokens, the chat template's included."""
    ids = tokenizer(STORY * 9).input_ids[: PROMPT - 40]
    return tokenizer.decode(ids)


def stock_trainer(model: Any, tokenizer: Any, text: str) -> Any:
    """TRL's trainer as it comes."""
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=ROWS_AT_ONCE,
        gradient_accumulation_steps=GROUP // ROWS_AT_ONCE,
        learning_rate=1e-6,
        **SHARED,
    )
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": text}]]})

    def alternate(completions: list[Any], **_: Any) -> list[float]:
        return [float(k % 2) for k in range(len(completions))]

    return GRPOTrainer(model, alternate, config, data, processing_class=tokenizer)


def main() -> None:
    plain, model, tokenizer = plain_and_latent()
    text = long_text(tokenizer)
    config = LatentGRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=1,
        learning_rate=1e-6,
        refresh="off",
        max_thoughts=0,
        **SHARED,
    )
    task = Prompt(text)
    ours = LatentGRPOTrainer(model, config, task, task.examples("train"), tokenizer, "latent")
    # one copy of the weights was shared: both train, so each gets its own
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    model.tie_weights()
    stock = stock_trainer(plain, tokenizer, text)
    torch.set_num_threads(1)
    rates = as_rates(interleaved(ours.train, stock.train, 2, warm_up=0))
    report_pairs("RL step, prompt 1024", "TRL's GRPOTrainer", rates, ">= 3", "steps per CPU s")


if __name__ == "__main__":
    main()
