"""What a stage costs, by hand."""

import pytest
from torch import nn

from conftest import random_llama, word_tokenizer
from litereason import cost


@pytest.fixture
def model():
    return random_llama(word_tokenizer())


def by_hand(model):
    """Weights outside the table of input embeddings."""
    return sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)


def test_a_tied_table_counts_as_head(model):
    assert cost.weights(model) == by_hand(model)
    model.set_output_embeddings(nn.Linear(1, 1, bias=False))
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    assert cost.weights(model) == model.num_parameters()


def test_sampling(model):
    rows = [{"discrete_tokens": 3, "latent_steps": 2}, {"discrete_tokens": 1, "latent_steps": 0}]
    found = cost.of_sampling(model, [10, 20], rows, 1.5)
    assert found == cost.Cost(4, 2, 36, 0, 2.0 * by_hand(model) * 36, 1.5)


def test_training_whole_and_frozen(model):
    found = cost.of_training(model, [10, 30], 2.0, 4.0)
    assert (found.forward_positions, found.training_tokens, found.seconds) == (80, 80, 4.0)
    assert found.flops == 6 * by_hand(model) * 80
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    head = model.lm_head.weight.numel()
    frozen = cost.of_training(model, [10, 30], 2.0, 4.0)
    assert frozen.flops == (4 * by_hand(model) + 2 * head) * 80


def test_rl_counts_a_shared_prompt_once(model):
    # twice: 2 prompts of 10 tokens, groups of 4, completions of 3 tokens and half a latent step (means)
    row = {"discrete_tokens": 3.0, "latent_steps": 0.5, "seconds": 2.0}
    rows = [
        row | {"generated_tokens": 24.0, "num_tokens": 8 * 13.5},
        row | {"generated_tokens": 48.0, "num_tokens": 16 * 13.5, "seconds": 5.0},
    ]
    found = cost.of_rl(model, rows, 4, 2)
    positions = 2 * (2 * 10 + 8 * 3.5)
    assert (found.discrete_tokens, found.latent_steps) == (48, 8)
    assert (found.forward_positions, found.training_tokens) == (3 * positions, 2 * positions)
    assert found.flops == (2 + 6 * 2) * by_hand(model) * positions
    assert found.seconds == 5.0
    assert cost.of_rl(model, [], 4, 1) == cost.Cost()


def test_costs_add_and_are_kept(tmp_path):
    one = cost.Cost(1, 2, 3, 4, 5.0, 6.0)
    cost.write(tmp_path, one + one)
    assert cost.read(tmp_path) == cost.Cost(2, 4, 6, 8, 10.0, 12.0)
    assert cost.read(tmp_path / "nothing") == cost.Cost()


def test_parts_add_and_count_once(tmp_path):
    one = cost.Cost(1, 2, 3, 4, 5.0, 6.0)
    for part in ("first", "second", "second"):
        cost.write(tmp_path, one, part)
    assert cost.read(tmp_path) == one + one
