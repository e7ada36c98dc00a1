"""Distilled thoughts: targets, losses and rows, against loops that read one position at a time."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

import litereason
import naive
from conftest import random_llama
from litereason import fill_plan
from litereason.compressed import CompressedTrainer, collate, compress, in_order
from litereason.distil import DistilTrainer, distil_losses
from litereason.errors import ConfigError, DataError
from litereason.sft import ProjectorConfig, mean_loss
from litereason.stages import SFTConfig
from litereason.traces import Replacement, shared_out, training_rows

LATENT = 4
pytest.importorskip("pysbd")


@pytest.fixture
def model(words):
    config = litereason.LatentConfig(projector="rms", depth=1)
    return litereason.attach(random_llama(words), words, config)


class AfterStep(TrainerCallback):
    def __init__(self, act):
        self.act = act

    def on_step_end(self, *args, **kwargs):
        self.act()


def row_of(prompt, parts, loss_from=0):
    """A row by hand: ints are tokens; a list of lists is a thought, a list for each of its slots."""
    ids, reasoning, groups, slots = [], [], [], 0
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
            continue
        for told in part:
            ids.append(LATENT)
            reasoning += told
            groups += [slots] * len(told)
            slots += 1
    labels = [-100 if t == LATENT or k < loss_from else t for k, t in enumerate(ids)]
    return {"input_ids": [*prompt, *ids], "labels": [-100] * len(prompt) + labels,
            "reasoning": reasoning, "groups": groups}  # fmt: skip


ROWS = [
    row_of([1, 7, 9], [20, [[5, 6, 5], [8, 8]], 10, 11, 2]),
    row_of([1], [20, [[12]], 14, 20, [[6, 5], [7], [9, 10, 11, 12]], 2], loss_from=1),
    row_of([1, 6, 6, 6], [13, 2]),
]


def test_places_turn_an_embedding():
    embeds = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [1, 0, 0, 2]])
    found = in_order(embeds, torch.tensor([0, 0, 0, 1]))
    expected = torch.tensor([[1.0, 2, 3, 4], [8, 5, 6, 7], [11, 12, 9, 10], [1, 0, 0, 2]])
    assert torch.equal(found, expected)
    assert in_order(embeds[:0], torch.tensor([], dtype=torch.long)).shape == (0, 4)


def test_a_sum_says_which_words_and_in_which_order():
    table = torch.randn(120, 96, generator=torch.manual_seed(0))
    ids, groups = torch.tensor([3, 50, 3, 7, 7, 50, 3, 99]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    sums = compress(in_order(table[ids], groups), groups)
    read = [int((table @ sums[g].roll(-place)).argmax()) for g in (0, 1) for place in range(4)]
    assert read == ids.tolist()
    assert not torch.allclose(*compress(in_order(table[[3, 7, 7, 3]], groups[2:6]), groups[2:6]))


def test_a_sentence_is_shared_out_evenly_among_its_steps():
    found = shared_out([[11, 12, 13, 14, 15, 16, 17], [21], [31, 32, 33, 34]], 0.5, 32)
    assert found["reasoning"] == [11, 12, 13, 14, 15, 16, 17, 21, 31, 32, 33, 34]
    assert found["groups"] == [0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5]
    assert shared_out([list(range(40))], 1.0, 3)["groups"][-1] == 2, "no more than the model takes"
    assert shared_out([], 0.2, 32) == {"reasoning": [], "groups": []}


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_every_slot_of_a_training_row_stands_for_words(latent_llama, words, ratio):
    text = "w5 w6 w7.\nw8 w9 w10 w11 w12 w13 w14.\nw15.\n\\boxed{No}"
    tags = latent_llama.latent_tags
    for most in (tags, tags.limited(2)):
        rows = training_rows([([1, 7], text)], Replacement((0.5, 1.0), 3, ratio), words, most)
        for row in rows:
            slots = row["input_ids"].count(LATENT)
            assert sorted(set(row["groups"])) == list(range(slots)) and slots
            assert row["groups"] == sorted(row["groups"])
    whole = words(text.split("\n\\")[0], add_special_tokens=False)["input_ids"]
    assert rows[-1]["reasoning"] == [i for i in whole if words.decode([i]).strip()]


def by_eye(model, row, own=False):
    """(log-probs of the labels, squared errors of the latents), a position at a time.

    With `own`, latents stand in the slots that follow from the positions before, in which targets stand;
    of a pause that is told, its one embedding.
    """
    table = model.get_input_embeddings().weight
    told = list(zip(row["reasoning"], row["groups"], strict=True))
    targets, slots = [], 0
    for token in row["input_ids"]:
        if token != LATENT:
            targets.append(table[token])
            continue
        words = [i for i, group in told if group == slots]
        turned = [table[i].detach().roll(place) for place, i in enumerate(words)]
        targets.append(sum(turned) / len(words) ** 0.5)
        slots += 1
    inputs = list(targets)
    for k, token in enumerate(row["input_ids"]):
        if own and token == LATENT:
            state = naive.hidden_of(model, torch.stack(targets[:k]))[-1]
            inputs[k] = model.latent_projector(state)
    guess = model.latent_projector
    if hasattr(guess, "embedding"):  # a pause: in all slots, and its head guesses
        inputs = [
            guess.embedding if i == LATENT else x
            for i, x in zip(row["input_ids"], inputs, strict=True)
        ]
        guess = guess.head
    tokens, errors = [], []
    for k in range(1, len(inputs)):
        state = naive.hidden_of(model, torch.stack(inputs[:k]))[-1]
        if row["labels"][k] != -100:
            tokens.append(model.lm_head(state).log_softmax(-1)[row["labels"][k]])
        if row["input_ids"][k] == LATENT:
            errors.append((guess(state) - targets[k]).pow(2).mean())
    return tokens, errors


@pytest.mark.parametrize(
    ("projector", "own"), [("rms", False), ("rms", True), ("pause-told", False)]
)
def test_both_losses_and_their_gradients_equal_the_naive_loop(words, projector, own):
    config = litereason.LatentConfig(projector=projector, depth=1)
    model = litereason.attach(random_llama(words), words, config)
    found = distil_losses(model, **collate(ROWS, words.pad_token_id), own=own)
    (found[0] + 3 * found[1]).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [by_eye(model, row, own) for row in ROWS]
    tokens = -torch.stack([x for part in parts for x in part[0]]).sum()
    variance = model.get_input_embeddings().weight.detach().var()
    errors = torch.stack([x for part in parts for x in part[1]]).sum() / variance
    (tokens + 3 * errors).backward()
    assert found[0].item() == pytest.approx(tokens.item(), rel=1e-6)
    assert found[1].item() == pytest.approx(errors.item(), rel=1e-6)
    trained = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert trained.keys() == gradients.keys()
    for name, wanted in trained.items():
        off = (gradients[name] - wanted).abs().max()
        assert off < 1e-5 * wanted.abs().max() + 1e-12, name
    heads = ["scale"] if projector == "rms" else ["head.scale", "embedding"]
    assert all(gradients[f"model.latent_projector.{name}"].any() for name in heads)


def test_rows_without_thoughts_have_no_latent_loss(model, words):
    tokens, latents = distil_losses(model, **collate(ROWS[2:], 0), own=True)
    count = sum(label != -100 for label in ROWS[2]["labels"])
    assert latents.item() == 0
    assert tokens.item() / count == pytest.approx(mean_loss(model, ROWS[2:], 0))


@pytest.mark.parametrize("own", [False, True])
def test_a_half_precision_base_has_a_float32_projector(words, own):
    config = litereason.LatentConfig(projector="rms", depth=1)
    model = litereason.attach(random_llama(words).bfloat16(), words, config)
    tokens, latents = distil_losses(model, **collate(ROWS, words.pad_token_id), own=own)
    assert latents.dtype == torch.float32
    exact = litereason.attach(random_llama(words), words, config)
    wanted = distil_losses(exact, **collate(ROWS, words.pad_token_id), own=own)
    assert tokens.item() == pytest.approx(wanted[0].item(), rel=0.05)
    assert latents.item() == pytest.approx(wanted[1].item(), rel=0.05)


def test_training_makes_the_models_own_latents_what_they_were_told(model, words, tmp_path):
    settings = ProjectorConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=3, gradient_accumulation_steps=1,
        learning_rate=1e-2, warmup_steps=0, use_cpu=True, save_strategy="no", max_steps=150, train="all",
    )  # fmt: skip
    trainer = CompressedTrainer(model, settings, ROWS, 0, losses=distil_losses, weight=3.0)
    before = mean_loss(model, ROWS, 0)
    trainer.train()
    assert trainer.skipped_steps == 0
    slots = sum(row["input_ids"].count(LATENT) for row in ROWS)
    assert distil_losses(model, **collate(ROWS, 0))[1].item() / slots < 0.05
    assert mean_loss(model, ROWS, 0) < 0.1 * before, "on its own latents, which it never trained on"


def test_the_models_own_latents_stand_in_the_slots_in_the_last_steps(model, tmp_path):
    settings = ProjectorConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=3, gradient_accumulation_steps=1,
        use_cpu=True, save_strategy="no", max_steps=4, train="all",
    )  # fmt: skip
    trainer = DistilTrainer(model, settings, ROWS, 0, weight=3.0, own=0.25)
    calls, taken = [], []
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    trainer.add_callback(AfterStep(lambda: taken.append(len(calls))))
    trainer.train()
    assert [b - a for a, b in itertools.pairwise([0, *taken])] == [1, 1, 1, 2]
    assert trainer.passes == 1.25


def test_a_pause_that_is_told_takes_one_pass_and_its_latents_say_nothing(words, tmp_path):
    config = litereason.LatentConfig(projector="pause-told", depth=1)
    model = litereason.attach(random_llama(words), words, config)
    settings = ProjectorConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=3, gradient_accumulation_steps=1,
        learning_rate=1e-2, warmup_steps=0, use_cpu=True, save_strategy="no", max_steps=150, train="all",
    )  # fmt: skip
    trainer = DistilTrainer(model, settings, ROWS, 0, weight=3.0, own=0.5)
    calls = []
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    assert len(calls) == 150 and trainer.passes == 1
    slots = sum(row["input_ids"].count(LATENT) for row in ROWS)
    assert distil_losses(model, **collate(ROWS, 0))[1].item() / slots < 0.05, "its head learns them"
    states = torch.randn(2, 3, 32, generator=torch.manual_seed(0))
    latents = model.model.latent_projector(states)
    assert torch.equal(latents, latents[:1, :1].expand_as(latents))


@pytest.mark.parametrize(("price", "groups"), [(0, 4), (10**6, 1)], ids=["row-by-row", "together"])
def test_the_trainers_loss_is_the_same_in_groups_of_rows(
    model, words, tmp_path, monkeypatch, price, groups
):
    """Rows of several lengths, out of order, one without thoughts: means are over the whole batch."""
    monkeypatch.setitem(fill_plan.PASS_COST, "cpu", price)
    rows = [ROWS[1], ROWS[2], ROWS[0], ROWS[1]]
    settings = ProjectorConfig(output_dir=str(tmp_path), use_cpu=True, train="all")
    trainer = CompressedTrainer(model, settings, rows, 0, losses=distil_losses, weight=3.0)
    calls = []
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    loss = trainer.compute_loss(model, collate(rows, 0))
    assert len(calls) == groups
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [by_eye(model, row) for row in rows]
    tokens = -torch.stack([x for part in parts for x in part[0]]).mean()
    errors = torch.stack([x for part in parts for x in part[1]]).mean()
    wanted = tokens + 3 * errors / model.get_input_embeddings().weight.detach().var()
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        off = (found[name] - parameter.grad).abs().max()
        assert off < 1e-5 * parameter.grad.abs().max() + 1e-12, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "projector"}, "give --train all"),
        ({"projector": "pause"}, "'pause' cannot"),
        ({"ratio": 1.5}, "expected at most 1"),
        ({"ratio": 0.0}, "expected latent steps a token, above 0"),
        ({"mode": "plain"}, "its prompts offer no thoughts"),
        ({"method_options": {"weight": 0.0}}, "expected more than 0"),
        ({"method_options": {"own": 1.5}}, "expected a share of the steps"),
    ],
)
def test_what_means_nothing_here_is_refused(changes, message):
    settings = {"model": "m", "task": "stories", "train": "all", "method": "distil"}
    with pytest.raises(ConfigError, match=message):
        SFTConfig(**(settings | changes))


def test_traces_that_hold_thoughts_are_refused(model, words, tmp_path):
    config = SFTConfig(model="m", task="stories", train="all", method="distil")
    # the job has no `fit`
    text = "w5.\n<implicit_thought>2</implicit_thought> w6.\n\\boxed{No}"
    job = SimpleNamespace(config=config, model=model, tokenizer=words, traces=[("w7", text)])
    with pytest.raises(DataError, match="trace 1 holds a thought"):
        config.how(job)
