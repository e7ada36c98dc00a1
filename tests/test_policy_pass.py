"""A group's prompt computed once: the same states and gradients as the whole batch."""

import pytest
import torch

import architectures
import litereason
import naive
from conftest import random_llama
from litereason import fill_plan
from litereason.model import backbone, constant_latents, has_latents
from litereason.policy_pass import completion_states

ROWS = [(0, 5), (1, 9), (0, 12), (2, 7), (1, 3), (0, 12), (2, 12)]  # (prompt, new ids), shuffled


def batch_of(model, tokenizer, rows=ROWS):
    """Prompts padded on the left, greedy completions of uneven length on the right."""
    prompts = [p for k, p in enumerate(architectures.prompts_of(tokenizer)) if k in (0, 3)]
    prompts.append(prompts[0] * 3)
    latent = tokenizer.convert_tokens_to_ids("<|latent|>")
    made = []
    for k, new in rows:
        torch.manual_seed(new + k)
        start = prompts[k] + torch.randint(5, 25, (1,)).tolist() * (k != 1)
        made.append(start[len(prompts[k]) :] + naive.greedy(model, tokenizer, start, new))
    width, keep = max(map(len, prompts)), max(map(len, made))
    ids = torch.zeros(len(rows), width + keep, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, ((k, _), new) in enumerate(zip(rows, made, strict=True)):
        text = prompts[k] + new
        ids[row, width - len(prompts[k]) : width + len(new)] = torch.tensor(text)
        mask[row, width - len(prompts[k]) : width + len(new)] = 1
    return ids, mask, keep, latent


def whole(model, ids, mask, keep):
    with constant_latents(model):
        output = backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False)
    return output.last_hidden_state[:, -keep - 1 : -1]


@pytest.mark.parametrize("price", [0, 24, 10**6])
@pytest.mark.parametrize("family", ["Llama", "GPT-NeoX", "Mistral", "Gemma 3 (text)", "OPT"])
def test_states_and_gradients_equal_the_whole_batch(family, monkeypatch, price):
    monkeypatch.setitem(fill_plan.PASS_COST, "cpu", price)
    model, tokenizer = architectures.make(family)
    ids, mask, keep, latent = batch_of(model, tokenizer)
    assert int(((ids == latent) & (mask == 1)).sum()) > 5
    real = mask[:, -keep:].bool()
    model.latent_projector.requires_grad_(False)
    weights = torch.randn(int(real.sum()), model.config.hidden_size, dtype=torch.float64)
    found = []
    for states in (completion_states, whole):
        output = states(model, ids, mask, keep)[real]
        (output * weights).sum().backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((output.detach(), gradients))
        model.zero_grad()
    (output, gradients), (wanted, expected) = found
    # families that compute norms in float32 resolve no more
    torch.testing.assert_close(output, wanted, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == expected.keys() and len(gradients) > 10
    for name, value in expected.items():
        assert (gradients[name] - value).abs().max() < 1e-5 * value.abs().max() + 1e-12, name


@pytest.mark.parametrize(
    ("family", "dtype", "off"),
    [
        ("GPT-2", torch.float64, 1e-10),
        ("GPT-2", torch.float32, 1e-5),
        ("Llama", torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_replayed_latents_equal_the_whole_batch(family, dtype, off, parts):
    """As in RL: the rollout's latents put back; groups whole, or split over micro-batches.

    GPT-2 computes in float64 throughout; Llama's norms are float32 in any case.
    """
    model, tokenizer = architectures.make(family)
    model.to(dtype)
    ids, mask, keep, latent = batch_of(model, tokenizer)
    slots = (ids == latent) & (mask == 1)
    kept = [
        naive.inputs_of(model, row[real.bool()].tolist()).detach()[at[real.bool()]]
        for row, real, at in zip(ids, mask, slots, strict=True)
    ]
    assert sum(map(len, kept)) > 5
    model.latent_projector.requires_grad_(False)
    real = mask[:, -keep:].bool()
    weights = torch.randn(*real.shape, model.config.hidden_size, dtype=dtype) * real[..., None]
    inputs = model.get_input_embeddings()(ids).masked_scatter(slots[..., None], torch.cat(kept))
    plain = backbone(model)(
        inputs_embeds=inputs,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state[:, -keep - 1 : -1]
    (plain * weights).sum().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for part in torch.arange(len(ids)).tensor_split(parts):
        found = completion_states(model, ids[part], mask[part], keep, [kept[k] for k in part])
        assert off_by(found[real[part]], plain[part][real[part]]) < off
        (found * weights[part]).sum().backward()
    for name, value in expected.items():
        assert off_by(dict(model.named_parameters())[name].grad, value) < 10 * off, name


def off_by(found, expected):
    """Largest difference, relative to the largest value."""
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


def test_a_prompt_is_computed_once(latent_llama, words, monkeypatch):
    ids, mask, keep, _ = batch_of(latent_llama, words)
    seen = []
    spine = backbone(latent_llama)
    handle = spine.norm.register_forward_hook(lambda m, i, o: seen.append(o.shape[:2].numel()))
    with torch.no_grad():
        completion_states(latent_llama, ids, mask, keep)
    handle.remove()
    assert seen[0] == 3 * (ids.shape[1] - keep)  # three prompts
    assert seen[-1] == len(ids) * keep


@pytest.mark.parametrize("case", ["plain model", "thoughts in the prompt", "all different"])
def test_other_batches(words, case):
    model = random_llama(words)
    if case != "plain model":
        litereason.attach(model, words)
    helper = litereason.attach(random_llama(words), words)
    ids, mask, keep, latent = batch_of(helper, words, ROWS[:2] if case == "all different" else ROWS)
    if case == "thoughts in the prompt":
        place = ids.shape[1] - keep - 3
        ids[:, place - 1], ids[:, place] = words.convert_tokens_to_ids(architectures.TAG), latent
        mask[:, place - 2 : place + 3] = 1
    found = completion_states(model, ids, mask, keep)
    real = mask[:, -keep:].bool()
    wanted = whole(model, ids, mask, keep)
    assert has_latents(model) == (case != "plain model")
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_goes_the_plain_way(words):
    """It drops the cache that a shared prompt is kept in."""
    model = random_llama(words).train()
    helper = litereason.attach(random_llama(words), words)
    ids, mask, keep, _ = batch_of(helper, words)
    real = mask[:, -keep:].bool()
    wanted = whole(model, ids, mask, keep)[real]
    model.gradient_checkpointing_enable()
    found = completion_states(model, ids, mask, keep)[real]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
