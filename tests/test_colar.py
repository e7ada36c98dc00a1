"""CoLaR: rows, losses and decoding, against loops that read one sequence without cache or padding."""

import math
import random

import pytest
import torch
from torch.distributions import Normal

import architectures
import litereason
import naive
from conftest import random_llama
from litereason import losses
from litereason.ablations import ablated
from litereason.baselines import colar, colar_sft
from litereason.baselines.colar import Colar, Frame, Wording
from litereason.baselines.colar_sft import colar_losses, make_row, training_rows
from litereason.checkpoints import load, save
from litereason.compressed import CompressedTrainer, collate, compress
from litereason.errors import ConfigError, DataError, ModelError
from litereason.sampling import SamplingConfig, generate_batch
from litereason.sft import ProjectorConfig, mean_loss
from litereason.stages import SFTConfig
from litereason.stories.tiny import tiny_tokenizer
from litereason.traces import reasoning_and_answer

TOLD = {"opening": " w{r} w20", "closing": " w21 w22"}  # words that the tests' tokenizer has
WORDING = Wording(**TOLD)
END = 26  # id of " w21"
LATENT = 4


def thinker(words, depth=2, **changes):
    """A random float64 model whose latent head says something."""
    model = random_llama(words, **changes)
    litereason.attach(model, words, litereason.LatentConfig(projector="colar", depth=depth))
    with torch.no_grad():
        out = model.latent_projector.out
        out.weight.normal_(std=0.2, generator=torch.manual_seed(1))
        out.bias.add_(0.1 * torch.randn(out.bias.shape, dtype=torch.float64))
    return model


@pytest.fixture
def model(words):
    return thinker(words)


# --- the latent head ---------------------------------------------------------------------------------


def test_the_head_starts_as_the_gaussian_of_all_token_embeddings(words):
    model = random_llama(words)
    weight = model.get_input_embeddings().weight
    litereason.attach(model, words, litereason.LatentConfig(projector="colar"))
    head = model.latent_projector
    hidden = torch.randn(3, 32, dtype=torch.float64)
    mean, log_std = head.gaussian(hidden)
    assert head.scale.item() == pytest.approx(weight.std().item())
    torch.testing.assert_close(head(hidden), weight.mean(0).expand(3, -1))
    torch.testing.assert_close(mean * head.scale, weight.mean(0).expand(3, -1))
    assert not log_std.any()


def test_a_sample_is_the_mean_and_so_many_standard_deviations(model):
    head = model.latent_projector
    hidden, normal = torch.randn(2, 5, 32, dtype=torch.float64).unbind(0)
    mean, log_std = head.gaussian(hidden)
    head.noise, head.normal = 0.7, normal
    torch.testing.assert_close(head(hidden), head.scale * (mean + 0.7 * log_std.exp() * normal))
    head.normal = None
    torch.manual_seed(5)
    drawn = head(hidden)
    torch.manual_seed(5)
    own = torch.randn_like(mean)
    torch.testing.assert_close(drawn, head.scale * (mean + 0.7 * log_std.exp() * own))


def test_the_log_density_is_the_normals(model):
    head = model.latent_projector
    hidden, latents = torch.randn(2, 4, 32, dtype=torch.float64).unbind(0)
    mean, log_std = head.gaussian(hidden)
    assert log_std.std() > 0.1
    wanted = Normal(mean, log_std.exp()).log_prob(latents / head.scale).mean(-1)
    torch.testing.assert_close(head.log_density(hidden, latents), wanted)


def test_the_density_is_bounded(model):
    head = model.latent_projector
    with torch.no_grad():
        head.out.bias[32:] = -50
    hidden = torch.randn(4, 32, dtype=torch.float64)
    certain = head.log_density(hidden, head(hidden))
    assert certain.tolist() == pytest.approx([5 - 0.5 * math.log(2 * math.pi)] * 4)


def test_the_head_is_saved_with_the_model(model, words, tmp_path):
    hidden = torch.randn(3, 32, dtype=torch.float64)
    again, _ = load(save(model, tmp_path / "full"), dtype=torch.float64)
    assert again.latent_projector.scale != 1
    torch.testing.assert_close(again.latent_projector(hidden), model.latent_projector(hidden))
    save(random_llama(words), tmp_path / "base", words)
    base, tokenizer = load(tmp_path / "base", dtype=torch.float64)
    litereason.attach(base, tokenizer, litereason.LatentConfig(projector="colar"))
    save(base, tmp_path / "small", projector_only=True)
    small, _ = load(tmp_path / "small", dtype=torch.float64)
    assert small.latent_projector.scale == base.latent_projector.scale != 1


# --- rows --------------------------------------------------------------------------------------------


def test_groups_are_summed_over_the_root_of_their_size():
    embeds = torch.tensor([[1.0, 0], [3, 2], [5, -2], [7, 1], [2, 2]])
    found = compress(embeds, torch.tensor([0, 0, 1, 1, 2]))
    expected = torch.tensor([[4, 2], [12, -1], [2 * 2**0.5, 2 * 2**0.5]]) / 2**0.5
    torch.testing.assert_close(found, expected)
    assert compress(embeds[:0], torch.tensor([], dtype=torch.long)).shape == (0, 2)


def test_a_row_by_hand():
    frame = Frame((11, 12), (END, 27))
    row = make_row([1, 7], [8, END, END, 8, END], [9, 2], 2, frame, LATENT, random.Random(0))
    assert row["input_ids"] == [1, 7, 11, 12, LATENT, LATENT, LATENT, END, 27, 9, 2]
    # the end marker's first token in a trace is never what a slot says
    assert row["labels"] == [-100] * 4 + [8, 8, -100] + [END, 27, 9, 2]
    assert row["reasoning"] == [8, END, END, 8, END] and row["groups"] == [0, 0, 1, 1, 2]
    nothing = make_row([1], [], [9, 2], 3, frame, LATENT, random.Random(0))
    assert nothing["input_ids"] == [1, 11, 12, END, 27, 9, 2] and nothing["groups"] == []


def test_a_held_out_row_is_judged_by_what_is_written():
    frame = Frame((11, 12), (END, 27))
    row = make_row([1, 7], [8, 8, 9], [9, 2], 2, frame, LATENT, random.Random(0))
    found = colar_sft.judged(row, LATENT)
    assert found["input_ids"] == row["input_ids"] == [1, 7, 11, 12, LATENT, LATENT, END, 27, 9, 2]
    assert found["labels"] == [-100] * 6 + [END, 27, 9, 2]


def test_every_token_of_a_group_may_be_its_label():
    frame, rng = Frame((11,), (END,)), random.Random(0)
    rows = [make_row([1], [5, 6, 7, 8], [2], 3, frame, LATENT, rng) for _ in range(50)]
    assert {row["labels"][2] for row in rows} == {5, 6, 7} and {r["labels"][3] for r in rows} == {8}


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("\n1. So.\nThen.\n\\boxed{No}", "\n1. So.\nThen.", "\n\\boxed{No}"),
        (
            "First \\boxed{Yes}? No.\nIt is \\boxed{No}. Sure.",
            "First \\boxed{Yes}? No.",
            "\nIt is \\boxed{No}. Sure.",
        ),
        ("One. Two. Three.\n", "One. Two.", " Three.\n"),
        ("\\boxed{No}", "", "\\boxed{No}"),
    ],
)
def test_what_is_reasoning(text, reasoning, answer):
    assert reasoning_and_answer(text) == (reasoning, answer)


def test_rows_tell_their_factor(words):
    text = "".join(f" w{k}" for k in range(7)) + "\n w8"
    made = training_rows([([1, 9], text)], words, LATENT, WORDING, range(1, 6), copies=40)
    assert len(made) == 40
    factors = set()
    for row in made:
        r = row["input_ids"][2] - 5  # " w3" has id 8
        factors.add(r)
        assert row["input_ids"][3] == 25 and row["input_ids"].count(LATENT) == math.ceil(7 / r)
        assert row["reasoning"] == list(range(5, 12))
        newline = words.convert_tokens_to_ids("\n")
        assert row["input_ids"][-5:] == [END, 27, newline, 13, words.eos_token_id]
    assert factors == {1, 2, 3, 4, 5}
    assert made == training_rows([([1, 9], text)], words, LATENT, WORDING, range(1, 6), copies=40)


def test_rows_that_cannot_be(words):
    trace = [([1, 9], " w1 w2\n w3")]
    with pytest.raises(DataError, match="max_length=5"):
        training_rows(trace, words, LATENT, WORDING, [1], max_length=5)
    with pytest.raises(ModelError, match="cannot read '<think 1>'"):
        training_rows(trace, words, LATENT, Wording(), [1])
    for options, error in (
        ({"largest": 0}, "largest is 0"),
        ({"opening": " w1"}, r"expected a text with \{r\}"),
        ({"latent_loss": "l1"}, "latent_loss is 'l1'"),
        ({"rate": 1}, "rate is unknown to colar; it takes opening, closing, latent_loss, largest"),
    ):
        with pytest.raises(ConfigError, match=error):
            SFTConfig(model="m", method="colar", method_options=options)


def test_the_tiny_tokenizer_reads_the_wording():
    tokenizer = tiny_tokenizer(["Ask."])
    for r in range(1, 6):
        frame = Wording().frame(tokenizer, r)
        assert len(frame.opening) == len(frame.closing) == 1
    last = len(tokenizer) - 1
    assert frame == Frame((last - 1,), (last,)), "at the end: other ids stay as they were"


# --- losses ------------------------------------------------------------------------------------------


def uneven_rows(words, answers=(1, 3, 2)):
    rng = random.Random(2)
    rows = []
    for k, length in enumerate(answers):
        r = (2, 5, 3)[k]
        frame = WORDING.frame(words, r)
        reasoning = [rng.randint(5, 24) for _ in range((9, 4, 1)[k])]
        answer = [rng.randint(5, 24) for _ in range(length)]
        rows.append(make_row([1, *range(7, 9 + 2 * k)], reasoning, answer, r, frame, LATENT, rng))
    return rows


def by_eye(model, row):
    """(log-probs of the labels, log-densities of the latents) of one row, a position at a time."""
    table, head = model.get_input_embeddings().weight, model.latent_projector
    slots, inputs = [], []
    for token in row["input_ids"]:
        if token == LATENT:
            group = [
                i for i, g in zip(row["reasoning"], row["groups"], strict=True) if g == len(slots)
            ]
            slots.append(sum(table[i] for i in group) / math.sqrt(len(group)))
            inputs.append(slots[-1])
        else:
            inputs.append(table[token])
    tokens, latents, errors = [], [], []
    for k in range(1, len(inputs)):
        state = naive.hidden_of(model, torch.stack(inputs[:k]))[-1]
        if row["labels"][k] != -100:
            tokens.append(model.lm_head(state).log_softmax(-1)[row["labels"][k]])
        if row["input_ids"][k] == LATENT:
            mean, log_std = head.gaussian(state)
            target = inputs[k].detach() / head.scale
            latents.append(Normal(mean, log_std.exp()).log_prob(target).mean())
            errors.append((target - mean).pow(2).mean())
    return tokens, latents, errors


@pytest.mark.parametrize("kind", ["nll", "mse"])
@pytest.mark.parametrize("chunk", [losses.LOGITS, 120])
def test_both_losses_and_their_gradients_equal_the_naive_loop(
    model, words, kind, chunk, monkeypatch
):
    monkeypatch.setattr(losses, "LOGITS", chunk)
    rows = uneven_rows(words)
    found = colar_losses(model, **collate(rows, words.pad_token_id), latent_loss=kind)
    (found[0] + found[1]).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [by_eye(model, row) for row in rows]
    tokens = -torch.stack([x for part in parts for x in part[0]]).sum()
    latents = torch.stack([x for part in parts for x in part[1 if kind == "nll" else 2]]).sum()
    latents = -latents if kind == "nll" else latents
    (tokens + latents).backward()
    assert found[0].item() == pytest.approx(tokens.item(), rel=1e-6)
    assert found[1].item() == pytest.approx(latents.item(), rel=1e-6)
    trained = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert trained.keys() == gradients.keys() and "model.embed_tokens.weight" in trained
    for name, wanted in trained.items():
        off = (gradients[name] - wanted).abs().max()
        assert off < 1e-5 * wanted.abs().max() + 1e-12, name
    assert gradients["model.latent_projector.out.weight"].any()
    assert gradients["model.layers.0.self_attn.q_proj.weight"].any()


def test_a_two_token_trace_by_hand(model):
    """One latent: (e5 + e6) / sqrt 2. Its slot's label and the end marker are all that is predicted."""
    row = {"input_ids": [1, 7, LATENT, END], "labels": [-100, -100, 6, END],
           "reasoning": [5, 6], "groups": [0, 0]}  # fmt: skip
    tokens, latents = colar_losses(model, **collate([row], 0))
    table = model.get_input_embeddings().weight
    latent = (table[5] + table[6]) / 2**0.5
    states = naive.hidden_of(model, torch.stack([table[1], table[7], latent]))
    spread = model.lm_head(states).log_softmax(-1)
    assert tokens.item() == pytest.approx(-(spread[1, 6] + spread[2, END]).item(), rel=1e-6)
    mean, log_std = model.latent_projector.gaussian(states[1])
    off = (latent / model.latent_projector.scale - mean) / log_std.exp()
    wanted = (0.5 * off**2 + log_std + 0.5 * math.log(2 * math.pi)).mean()
    assert latents.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_rows_without_reasoning_have_no_latent_loss(model, words):
    frame = WORDING.frame(words, 1)
    row = make_row([1, 7], [], [9, 2], 1, frame, LATENT, random.Random(0))
    tokens, latents = colar_losses(model, **collate([row], 0))
    count = sum(label != -100 for label in row["labels"])
    assert latents.item() == 0 and tokens.item() / count == pytest.approx(
        mean_loss(model, [row], 0)
    )


@pytest.mark.parametrize("train", ["projector", "all"])
def test_training_lowers_the_loss(model, words, tmp_path, train):
    rows = uneven_rows(words)
    batch = collate(rows, 0)
    before = [x.item() for x in colar_losses(model, **batch)]
    policy = model.lm_head.weight.detach().clone()
    settings = ProjectorConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=3, gradient_accumulation_steps=1,
        learning_rate=1e-2, warmup_steps=0, use_cpu=True, save_strategy="no", max_steps=20, train=train,
    )  # fmt: skip
    trainer = CompressedTrainer(model, settings, rows, 0, losses=colar_losses)
    trainer.train()
    after = [x.item() for x in colar_losses(model, **batch)]
    assert trainer.skipped_steps == 0 and after[1] < before[1] - 0.1
    assert (after[0] < before[0]) == (train == "all")
    assert torch.equal(policy, model.lm_head.weight) == (train == "projector")


# --- decoding ----------------------------------------------------------------------------------------


def think_aloud(model, tokenizer, prompt, new, frame, max_steps):
    """Greedy: opening, latent steps while anything but the marker is most probable, marker, text."""
    embedding = model.get_input_embeddings().weight
    ids = [*prompt, *frame.opening]
    inputs = [embedding[i] for i in ids]

    def write(token, embeds):
        ids.append(token)
        inputs.append(embeds)

    steps, thinking = 0, True
    while len(ids) < len(prompt) + new and ids[-1] != tokenizer.eos_token_id:
        state = naive.hidden_of(model, torch.stack(inputs))[-1]
        logits = model.lm_head(state).clone()
        logits[LATENT] = -torch.inf
        token = int(logits.argmax())
        if not thinking:
            write(token, embedding[token])
        elif token == frame.closing[0] or steps == max_steps:
            thinking = False
            for end in frame.closing:
                write(end, embedding[end])
        else:
            steps += 1
            write(LATENT, model.latent_projector(state))
    return ids[len(prompt) : len(prompt) + new]


@pytest.fixture
def ending(model):
    """The end marker is likely, so that greedy rows end by it, at different times."""
    with torch.no_grad():
        model.lm_head.weight[END] *= 1.6
    return model


@torch.no_grad()
@pytest.mark.parametrize("max_steps", [3, 200])
def test_greedy_decoding_equals_the_naive_loop(ending, words, max_steps):
    prompts = [*architectures.prompts_of(words)[1:2], [1, 7], [1, 9, 12, 30, 14], [1, 20, 21]]
    prompts = [[i for i in p if i != LATENT] for p in prompts] + [[1, k, 9] for k in range(10, 18)]
    frame = WORDING.frame(words, 4)
    expected = [think_aloud(ending, words, p, 24, frame, max_steps) for p in prompts]
    options = {"r": 4, "max_steps": max_steps, **TOLD}
    config = SamplingConfig(
        temperature=0, max_new_tokens=24, decoding="colar", decoding_options=options
    )
    made = generate_batch(ending, words, prompts, config)
    alone = [generate_batch(ending, words, [p], config)[0] for p in prompts]
    for ids, done, one in zip(expected, made, alone, strict=True):
        ends = (words.eos_token_id, words.pad_token_id)
        cut = next((k for k, token in enumerate(ids) if token in ends), len(ids))
        assert list(done.ids) == list(one.ids) == ids[:cut]
        assert done.latent_steps == ids.count(LATENT) and done.text.startswith(" w4 w20")
    steps = {done.latent_steps for done in made}
    assert len(steps) > 2 if max_steps > 3 else max(steps) == 3
    assert any(END in done.ids and done.latent_steps < max_steps for done in made)


@torch.no_grad()
def test_sampled_steps_end_with_the_markers_probability(model, words):
    """At a temperature, what the marker has among all tokens; then sampling goes on as usual."""
    prompt, heat = [1, 7, 9], 1.7
    with torch.no_grad():
        model.lm_head.weight[END] *= 0.8
    frame = WORDING.frame(words, 2)
    state = naive.hidden_of(model, naive.inputs_of(model, [*prompt, *frame.opening]))[-1]
    logits = model.lm_head(state) / heat
    logits[LATENT] = -torch.inf
    wanted = float(logits.softmax(-1)[END])
    think = colar.Think(frame, LATENT, 9, heat)
    seen = torch.tensor([prompt])
    assert int(think(seen, torch.zeros(1, len(words))).argmax()) == frame.opening[0]
    seen = torch.tensor([[*prompt, *frame.opening]])
    found = (think(seen, heat * logits[None]) / heat).softmax(-1)[0]
    assert 0.001 < wanted < 0.999
    assert float(found[END]) == pytest.approx(wanted) and float(found[LATENT]) == pytest.approx(
        1 - wanted
    )
    for more, expected in (([END], 27), ([LATENT, END], 27)):
        row = torch.tensor([[*prompt, *frame.opening, *more]])
        assert int(think(row, heat * logits[None]).argmax()) == expected
    free = torch.tensor([[*prompt, *frame.opening, LATENT, END, 27]])
    assert torch.equal(think(free, heat * logits[None]), heat * logits[None])


@torch.no_grad()
def test_noise_draws_latents_and_is_gone_afterwards(model, words):
    config = SamplingConfig(max_new_tokens=12, decoding="colar",
                            decoding_options={"noise": 1.0, **TOLD})  # fmt: skip
    seen = []
    hook = model.latent_projector.register_forward_hook(
        lambda module, args, output: seen.append((args[0], output))
    )
    torch.manual_seed(0)
    generate_batch(model, words, [[1, 7], [1, 7]], config)
    hook.remove()
    head = model.latent_projector
    assert head.noise == 0 and seen
    assert all(not torch.allclose(head(state), latent) for state, latent in seen)
    states, latents = (torch.cat(x) for x in zip(*seen, strict=True))
    mean, log_std = head.gaussian(states)
    drawn = (latents / head.scale - mean) / log_std.exp()
    assert abs(float(drawn.mean())) < 0.15 and abs(float(drawn.std()) - 1) < 0.15


@torch.no_grad()
def test_tags_are_plain_text_and_ablations_work(ending, words):
    config = SamplingConfig(temperature=1, top_p=1, top_k=0, max_new_tokens=30, decoding="colar",
                            decoding_options={"max_steps": 2, **TOLD})  # fmt: skip
    torch.manual_seed(3)
    made = generate_batch(ending, words, [[1, 7]] * 20, config)
    tags = set(
        words.convert_tokens_to_ids([f"<implicit_thought>{n}</implicit_thought>" for n in (1, 2)])
    )
    assert any(tags & {*done.ids} for done in made)
    for done in made:
        first = list(done.ids).index(END)
        assert first <= 4 and LATENT not in done.ids[first:]
    for name in ("zeros", "other_row"):
        with ablated(ending, name):
            assert generate_batch(ending, words, [[1, 7]] * 2, config)


def test_decoding_that_cannot_be(latent_llama, model, words):
    with pytest.raises(ConfigError, match="--decoding is 'colour'"):
        SamplingConfig(decoding="colour")
    with pytest.raises(ConfigError, match="without --decoding"):
        SamplingConfig(decoding_options={"r": 2})
    for options, error in (
        ({"rate": 2}, "rate is unknown to colar; it takes opening, closing, r, noise, max_steps"),
        ({"r": 0}, "r is 0"),
        ({"r": 2.5}, "r is 2.5"),
        ({"noise": -1.0}, "noise is -1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"closing": ""}, "a text that ends the thinking"),
    ):
        with pytest.raises(ConfigError, match=error):
            SamplingConfig(decoding="colar", decoding_options=options)
    with pytest.raises(ModelError, match="this one has 'mlp'"), Colar()(latent_llama, words, 1.0):
        pass
    with pytest.raises(ModelError, match="cannot read '<think 5>'"), Colar()(model, words, 1.0):
        pass
