"""The LM head on chosen positions, against whole logits computed by hand in float64."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
)

import architectures
import litereason
import naive
from conftest import random_llama
from litereason import fill_plan, latent_forward, losses
from litereason.model import backbone

VOCAB = 40
BANNED = 7
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "gemma2": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=1.5),
    "granite": GraniteConfig(**SIZES, logits_scaling=3.0),
    "cohere": CohereConfig(**SIZES, logit_scale=0.25),
}


def model_of(name: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name]).double().eval()


@pytest.fixture(scope="module")
def llama():
    return model_of("llama")


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two rows of 8, the second padded on the left."""
    torch.manual_seed(1)
    ids = torch.randint(1, VOCAB, (2, 8))
    mask = torch.ones_like(ids)
    ids[1, :3], mask[1, :3] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(params=[losses.LOGITS, 3 * VOCAB], ids=["one-chunk", "chunks-of-3"], autouse=True)
def chunk(request, monkeypatch):
    monkeypatch.setattr(losses, "LOGITS", request.param)


@pytest.mark.parametrize("name", CONFIGS)
def test_head_is_the_models_own(name, batch):
    model, ids = model_of(name), batch["input_ids"][:1]
    hidden = model.base_model(ids).last_hidden_state
    plain = model.get_output_embeddings()(hidden)
    own = model(ids).logits
    assert torch.equal(losses.head(model, hidden), own)
    assert (name == "llama") == torch.equal(plain, own)  # scaling and capping do something here


def test_next_token_loss_sums_over_the_labelled_positions(llama, batch):
    labels = torch.full((2, 8), -100)
    labels[0, 3:6], labels[1, 7] = batch["input_ids"][0, 3:6], batch["input_ids"][1, 7]
    log_probs = llama(**batch).logits.log_softmax(-1)
    places = [(0, 3), (0, 4), (0, 5), (1, 7)]
    wanted = -sum(log_probs[row, k - 1, batch["input_ids"][row, k]] for row, k in places)
    found = losses.next_token_loss(llama, **batch, labels=labels)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_next_token_loss_predicts_nothing_at_the_first_position(llama, batch):
    labels = torch.full((2, 8), -100)
    labels[0, 0] = 5
    assert losses.next_token_loss(llama, **batch, labels=labels).item() == 0.0


def test_next_token_loss_without_labels_has_a_zero_gradient(batch):
    model = model_of("llama")
    labels = torch.full((2, 8), -100)
    losses.next_token_loss(model, **batch, labels=labels).backward()
    gradients = [p.grad for p in model.base_model.parameters()]
    assert all(g is not None and not g.any() for g in gradients)


def reference(model, hidden, temperature: float, banned: int | None) -> torch.Tensor:
    """Log-probabilities `(batch, length, vocab)` from plain sums of exponentials."""
    weights = torch.exp(hidden @ model.lm_head.weight.T / temperature)
    if banned is not None:
        weights[..., banned] = 0
    return torch.log(weights / weights.sum(-1, keepdim=True))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
@pytest.mark.parametrize("banned", [None, BANNED, 0])
def test_log_probs_and_entropy_by_hand(llama, temperature, banned):
    torch.manual_seed(2)
    hidden, targets = torch.randn(2, 5, 16).double(), torch.randint(8, VOCAB, (2, 5))
    spread = reference(llama, hidden, temperature, banned)
    found, entropy = losses.completion_log_probs(llama, hidden, targets, temperature, banned, True)
    terms = torch.where(spread.isinf(), 0.0, spread.exp() * spread)
    torch.testing.assert_close(found, spread.gather(2, targets[..., None])[..., 0])
    torch.testing.assert_close(entropy, -terms.sum(-1))
    assert found.dtype == torch.float64


def test_log_prob_of_the_banned_id_is_zero_and_has_no_gradient(llama):
    torch.manual_seed(2)
    hidden = torch.randn(1, 3, 16).double().requires_grad_()
    targets = torch.tensor([[9, BANNED, 11]])
    found, entropy = losses.completion_log_probs(llama, hidden, targets, 0.7, BANNED)
    found.sum().backward()
    assert found[0, 1] == 0.0 and (found[0, [0, 2]] < 0).all() and entropy is None
    assert hidden.grad.isfinite().all()
    assert [bool(row.any()) for row in hidden.grad[0]] == [True, False, True]


def test_log_probs_of_half_precision_are_float32():
    model = model_of("llama").bfloat16()
    hidden = torch.randn(1, 3, 16).bfloat16()
    targets = torch.tensor([[9, 10, 11]])
    found, _ = losses.completion_log_probs(model, hidden, targets, 1.0, BANNED)
    logits = model.lm_head(hidden).float()
    logits[..., BANNED] = -torch.inf
    torch.testing.assert_close(found, logits.log_softmax(-1).gather(2, targets[..., None])[..., 0])


def thoughts_of(model, words):
    """Rows with thoughts; the same as a padded batch, and its labels."""
    new = [4, 5, 7, 3]
    rows = [
        p + naive.greedy(model, words, p, n)
        for p, n in zip(architectures.prompts_of(words), new, strict=True)
    ]
    given = architectures.padded(rows, words.pad_token_id, "right")
    keep = architectures.discrete(model, given)
    labels = torch.full_like(given["input_ids"], -100)
    labels[:, 1:][keep] = given["input_ids"][:, 1:][keep]
    return rows, given, labels


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("price, groups", [(0, 4), (10**6, 1)], ids=["row-by-row", "lock-step"])
def test_loss_over_thoughts_equals_the_naive_loop(
    latent_llama, words, monkeypatch, price, groups, frozen
):
    """In groups, each with its own backward pass, and in one: the same loss and gradients."""
    monkeypatch.setitem(fill_plan.PASS_COST, "cpu", price)
    model, latent = latent_llama, latent_llama.latent_tags.latent_token_id
    model.requires_grad_(not frozen)
    model.latent_projector.requires_grad_(True)
    rows, given, labels = thoughts_of(model, words)
    chosen = latent_forward.micro_batches(backbone(model), *given.values())
    assert len(chosen) == groups
    # the loss's softmax holds the latent id: training predicts text, where it never stands
    (3 * losses.next_token_loss(model, **given, labels=labels)).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        logits = model(inputs_embeds=naive.inputs_of(model, row)[None], use_cache=False).logits[0]
        targets = torch.tensor(row[1:])
        log_probs = logits[:-1].log_softmax(-1).gather(1, targets[:, None])[:, 0]
        total = total - 3 * log_probs[targets != latent].sum()
    total.backward()
    assert losses.next_token_loss(model, **given, labels=labels).item() == pytest.approx(
        total.item() / 3, rel=1e-9
    )
    assert len(found) == sum(p.requires_grad for p in model.parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = float(parameter.grad.abs().max())
            assert float((found[name] - parameter.grad).abs().max()) < 1e-5 * scale, name


@pytest.mark.parametrize("gradients", [True, False])
def test_latents_that_read_nothing_take_one_pass(words, gradients):
    model = random_llama(words)
    litereason.attach(model, words, litereason.LatentConfig(projector="pause"))
    model.latent_projector.embedding.data.normal_(generator=torch.manual_seed(0))
    backbone(model).latent_gradients = gradients
    rows, given, labels = thoughts_of(model, words)
    calls = []
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    loss = losses.next_token_loss(model, **given, labels=labels)
    loss.backward()
    assert len(calls) == 1
    found = model.latent_projector.embedding.grad
    model.zero_grad(set_to_none=True)
    parts = []
    for row, wanted in zip(rows, labels.tolist(), strict=True):
        logits = model(inputs_embeds=naive.inputs_of(model, row)[None], use_cache=False).logits[0]
        told = [(k, t) for k, t in enumerate(wanted[: len(row)]) if t != -100]
        parts += [-logits[k - 1].log_softmax(-1)[token] for k, token in told]
    total = torch.stack(parts).sum()
    total.backward()
    assert loss.item() == pytest.approx(total.item(), rel=1e-9)
    if gradients:
        torch.testing.assert_close(found, model.latent_projector.embedding.grad)
    else:
        assert found is None


def test_plain_rows_of_like_length_run_together_to_the_same_loss(llama, monkeypatch):
    lengths = [8, 3, 7, 2]
    ids = torch.arange(1, 33).view(4, 8)
    mask = (torch.arange(8) < torch.tensor(lengths)[:, None]).long()
    given = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    found = []
    for price in (0, 10**6):
        monkeypatch.setitem(fill_plan.PASS_COST, "cpu", price)
        groups = latent_forward.micro_batches(backbone(llama), ids, mask)
        assert len(groups) == (1 if price else 4)
        llama.zero_grad()
        loss = losses.next_token_loss(llama, **given)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in llama.parameters())])
    for apart, together in zip(*found, strict=True):
        torch.testing.assert_close(apart, together)


def test_known_latents_do_not_cut_a_row(latent_llama, monkeypatch):
    """Where they are to be found, each starts a stretch; where they are known, a row is one."""
    seen = []
    monkeypatch.setattr(latent_forward, "plan", lambda rows, *_, **__: seen.append(rows) or [])
    slot = latent_llama.latent_tags.latent_token_id
    ids = torch.tensor([[7, 8, slot, slot, 9], [7, 8, 9, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    for parallel in (False, True):
        latent_forward.micro_batches(backbone(latent_llama), ids, mask, parallel=parallel)
    assert seen == [[[2, 1, 2], [3]], [[5], [3]]]


def test_groups_at_the_same_time_give_the_same_bits(latent_llama, words, monkeypatch):
    monkeypatch.setitem(fill_plan.PASS_COST, "cpu", 0)
    prompts = architectures.prompts_of(words)
    rows = [p + naive.greedy(latent_llama, words, p, 12) for p in prompts]
    given = architectures.padded(rows, words.pad_token_id, "right")
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    assert len(latent_forward.micro_batches(backbone(latent_llama), *given.values())) > 2
    found = []
    for threads in (1, 3):
        latent_llama.zero_grad()
        loss = losses.next_token_loss(latent_llama, **given, labels=labels, threads=threads)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in latent_llama.parameters())])
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)
