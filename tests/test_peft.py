"""LoRA on a model with latent steps: start, gradients, training, saving, merging."""

import pytest
import torch
from safetensors.torch import load_file

import naive
from conftest import random_llama, word_tokenizer
from litereason import LiteReasonError, attach, detach, load, save
from litereason.errors import ModelError
from litereason.model import has_latents, projector_of
from litereason.projector import MLPProjector
from litereason.sft import ProjectorConfig, ProjectorTrainer

peft = pytest.importorskip("peft")

TAG = "<implicit_thought>3</implicit_thought>"
KEPT = ["latent_projector"]
LORAS = {
    "attention, projector": (["q_proj", "v_proj"], KEPT),
    "attention": (["q_proj", "v_proj"], None),
    "all-linear, projector": ("all-linear", KEPT),
    "all-linear": ("all-linear", None),
    "mlp": (["gate_proj", "down_proj"], None),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain checkpoint in float64."""
    words = word_tokenizer()
    return save(random_llama(words), tmp_path_factory.mktemp("base") / "plain", words)


def with_latents(path, **options):
    return attach(*load(path, **options))


def with_lora(model, name="attention, projector", **options):
    torch.manual_seed(0)
    targets, kept = LORAS[name]
    config = peft.LoraConfig(
        r=4, target_modules=targets, modules_to_save=kept, task_type="CAUSAL_LM", **options
    )
    return peft.get_peft_model(model, config).eval()


@torch.no_grad()
def outputs(model):
    """Greedy ids of two prompts that begin with a thought, and the logits over them."""
    tag = word_tokenizer().convert_tokens_to_ids(TAG)
    ids = torch.tensor([[1, 8, 9, tag], [1, 11, 12, tag]])
    mask = torch.ones_like(ids)
    ids = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=20, do_sample=False)
    return ids, model(input_ids=ids).logits


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def trained(model, ids, steps=3):
    """`model` after a few steps on `ids`; names of the parameters that changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return changed(model, before)


def changed(model, before):
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def in_projector(names):
    return {name for name in names if "latent_projector" in name}


@pytest.mark.parametrize("name", LORAS)
def test_training_starts_where_the_model_was_and_moves_it(base, name):
    model = with_latents(base)
    before = outputs(model)
    model = with_lora(model, name)
    assert has_latents(model)
    assert isinstance(model.base_model.model, type(model.get_base_model()))
    assert equal(outputs(model), before)
    moved = trained(model, before[0])
    assert any("lora_" in n and "latent_projector" not in n for n in moved)
    assert bool(in_projector(moved)) == (name != "attention")
    assert all("lora_" in n or "modules_to_save" in n for n in moved)
    after = outputs(model)
    assert not equal(after, before)
    with model.disable_adapter():
        assert equal(outputs(model), before)


@pytest.mark.parametrize("name", LORAS)
def test_a_saved_adapter_is_the_same(base, tmp_path, name):
    model = with_lora(with_latents(base), name)
    trained(model, outputs(model)[0])
    with torch.no_grad():  # trained before, by another stage: not in PEFT's own file
        used = model.get_base_model().latent_projector
        used = getattr(used, "modules_to_save", {"default": used})["default"]
        scaled = used.layers[0].up_proj.weight.mul_(1.2)
    wanted = outputs(model)
    save(model, tmp_path / "saved")
    names = {file.name for file in (tmp_path / "saved").iterdir()}
    assert {"adapter_model.safetensors", "projector.safetensors", "litereason.json"} <= names
    assert "An adapter" in (tmp_path / "saved" / "README.md").read_text()
    again, _ = load(tmp_path / "saved")
    assert has_latents(again) and isinstance(again, peft.PeftModel)
    assert equal(outputs(again), wanted)
    stored = load_file(tmp_path / "saved" / "projector.safetensors")
    assert torch.equal(stored["layers.0.up_proj.weight"], scaled)
    (tmp_path / "elsewhere").symlink_to(base)
    assert equal(outputs(load(tmp_path / "saved", base=tmp_path / "elsewhere")[0]), wanted)


@pytest.mark.parametrize("name", LORAS)
def test_merged_is_a_model_with_latent_steps(base, tmp_path, name):
    model = with_lora(with_latents(base), name)
    trained(model, outputs(model)[0])
    wanted = outputs(model)
    with pytest.raises(ModelError, match="merge_and_unload"):
        detach(model)
    merged = model.merge_and_unload()
    assert has_latents(merged) and type(merged.latent_projector) is MLPProjector
    found = outputs(merged)
    assert torch.equal(found[0], wanted[0])
    assert torch.allclose(found[1], wanted[1], atol=1e-4)  # norms compute in float32
    save(merged, tmp_path / "saved")
    assert equal(outputs(load(tmp_path / "saved")[0]), found)
    plain = detach(merged)
    assert not has_latents(plain) and type(plain) is type(load(base)[0])
    ids = torch.tensor([[1, 8, 9, 12]])
    assert torch.equal(plain(ids).logits, load(tmp_path / "saved")[0](ids).logits)


@pytest.mark.parametrize("name", ["attention, projector", "all-linear"])
def test_gradients_through_latent_slots_equal_the_naive_loop(base, name):
    model = with_lora(with_latents(base), name, init_lora_weights=False)
    inner = model.get_base_model()
    ids = outputs(model)[0]
    latent = inner.latent_config.latent_token_id
    chosen = ids[:, 1:] != latent
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    logits = logits.index_fill(2, torch.tensor([latent]), -torch.inf)
    log_probs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    log_probs[chosen].sum().backward()
    got = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row, keep in zip(ids.tolist(), chosen, strict=True):
        naive.log_probs_of(inner, row)[keep].sum().backward()
    wanted = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert set(got) == set(wanted) and in_projector(got) and len(in_projector(got)) < len(got)
    for parameter, gradient in wanted.items():
        scale = gradient.abs().max()
        assert scale > 0, parameter
        assert (got[parameter] - gradient).abs().max() / scale < 1e-5, parameter


def test_the_projector_stays_float32_beside_bfloat16(base, tmp_path):
    model = with_lora(with_latents(base, dtype=torch.bfloat16), init_lora_weights=False)
    trained(model, outputs(model)[0])
    assert {p.dtype for p in projector_of(model).parameters()} == {torch.float32}
    wanted = outputs(model)
    save(model, tmp_path / "saved")
    again, _ = load(tmp_path / "saved", dtype=torch.bfloat16)
    assert {p.dtype for p in projector_of(again).parameters()} == {torch.float32}
    assert equal(outputs(again), wanted)


def test_projector_only_would_lose_the_adapter(base, tmp_path):
    with pytest.raises(ModelError, match="lose the adapter"):
        save(with_lora(with_latents(base)), tmp_path / "saved", projector_only=True)


def test_an_adapter_on_a_trained_policy_is_refused(base, tmp_path):
    model = with_latents(base)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.mul_(1.5)
    model = with_lora(load(save(model, tmp_path / "trained"))[0])
    with pytest.raises(ModelError, match="merge_and_unload"):
        save(model, tmp_path / "saved")


def test_an_adapter_added_by_transformers_is_refused(base, tmp_path):
    model = with_latents(base)
    model.add_adapter(peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    with pytest.raises(ModelError, match="get_peft_model"):
        save(model, tmp_path / "saved")


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_adapter_is_named(base, tmp_path, file):
    save(with_lora(with_latents(base)), tmp_path / "saved")
    path = tmp_path / "saved" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LiteReasonError, match=str(tmp_path / "saved")):
        load(tmp_path / "saved")


@pytest.mark.parametrize("train", ["projector", "all"])
@pytest.mark.parametrize("name", ["attention, projector", "attention"])
def test_what_the_projector_trainer_trains_is_saved(base, tmp_path, name, train):
    model = with_lora(with_latents(base), name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ids = outputs(model)[0]
    rows = [{"input_ids": row, "labels": row} for row in ids.tolist()]
    args = ProjectorConfig(
        output_dir=str(tmp_path / "run"),
        train=train,
        max_steps=2,
        learning_rate=1e-2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        save_strategy="no",
        use_cpu=True,
    )
    ProjectorTrainer(model, args, rows, pad_token_id=0).train()
    moved = changed(model, before)
    assert in_projector(moved)
    assert any("lora_" in n for n in moved) == (train == "all")
    save(model.eval(), tmp_path / "saved")
    assert equal(outputs(load(tmp_path / "saved")[0]), outputs(model))
