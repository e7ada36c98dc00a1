"""What a stage costs, by hand."""

import pytest
from torch import nn

import litereason
from conftest import random_llama, word_tokenizer
from litereason import cost


@pytest.fixture
def model():
    return random_llama(word_tokenizer())


@pytest.fixture
def latent():
    words = word_tokenizer()
    return litereason.attach(random_llama(words), words, litereason.LatentConfig(projector="rms"))


def by_hand(model):
    """Weights outside the table of input embeddings and the projector."""
    left_out = ("embed_tokens", "latent_projector")
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if not any(part in name for part in left_out))


def row_of(length, slots=0):
    """A training row of so many ids, latent ones (4) first."""
    return {"input_ids": [4] * slots + [7] * (length - slots), "labels": [-100] * length}


def test_a_tied_table_counts_as_head(model):
    assert cost.weights(model) == by_hand(model)
    model.set_output_embeddings(nn.Linear(1, 1, bias=False))
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    assert cost.weights(model) == model.num_parameters()


def test_sampling(model):
    rows = [{"discrete_tokens": 3, "latent_steps": 2}, {"discrete_tokens": 1, "latent_steps": 0}]
    found = cost.of_sampling(model, [10, 20], rows, 1.5)
    assert found == cost.Cost(4, 2, 36, 0, 2.0 * by_hand(model) * 36, 1.5)


def test_the_projector_runs_at_latent_positions_alone(latent):
    assert latent.latent_tags.latent_token_id == 4
    own = sum(p.numel() for p in latent.latent_projector.parameters())
    assert own and cost.projector_weights(latent) == own
    rows = [{"discrete_tokens": 3, "latent_steps": 2}, {"discrete_tokens": 1, "latent_steps": 0}]
    found = cost.of_sampling(latent, [10, 20], rows, 1.5)
    assert found.flops == 2 * by_hand(latent) * 36 + 2 * own * 2
    latent.latent_projector.reads_hidden = False  # a pause: the same in every step
    assert cost.of_sampling(latent, [10, 20], rows, 1.5).flops == 2 * by_hand(latent) * 36
    rows = [row_of(10, 3), row_of(30)]
    assert cost.of_training(latent, rows, 2.0, 4.0).flops == 6 * by_hand(latent) * 80 + 6 * own * 6
    latent.requires_grad_(False)
    latent.latent_projector.requires_grad_(True)
    assert cost.of_training(latent, rows, 2.0, 4.0).flops == 4 * by_hand(latent) * 80 + 6 * own * 6


def test_rl_with_thoughts_and_refreshes(latent):
    # 2 prompts of 10 tokens, groups of 4, completions of 3 tokens and 2 latent steps; 50 + 20 refreshed
    row = {"discrete_tokens": 3.0, "latent_steps": 2.0, "seconds": 2.0}
    rows = [
        row | {"generated_tokens": 24.0 * k, "num_tokens": 8 * 15.0 * k, **refreshed}
        for k, refreshed in enumerate(
            (
                {"refresh_positions": 50.0, "refresh_slots": 5.0},
                {"refresh_positions": 70.0, "refresh_slots": 8.0},
                {},
            ),
            1,
        )
    ]
    own, every, positions = cost.projector_weights(latent), by_hand(latent), 3 * (2 * 10 + 8 * 5)
    latent.latent_projector.requires_grad_(False)
    found = cost.of_rl(latent, rows, 4, 1)
    assert (found.discrete_tokens, found.latent_steps) == (72, 48)
    assert (found.forward_positions, found.training_tokens) == (2 * positions + 70, positions + 70)
    refresh = 4 * every * 70 + 6 * own * 8
    assert found.flops == 8 * every * positions + 2 * own * 48 + refresh
    latent.latent_projector.requires_grad_(True)  # the projector trains with the policy
    assert cost.of_rl(latent, rows, 4, 1).flops == 8 * every * positions + 8 * own * 48 + refresh


def test_training_whole_and_frozen(model):
    found = cost.of_training(model, [row_of(10), row_of(30)], 2.0, 4.0)
    assert (found.forward_positions, found.training_tokens, found.seconds) == (80, 80, 4.0)
    assert found.flops == 6 * by_hand(model) * 80
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    head = model.lm_head.weight.numel()
    frozen = cost.of_training(model, [row_of(10), row_of(30)], 2.0, 4.0)
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
