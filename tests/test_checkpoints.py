"""Checkpoints: full, sharded, projector only; which base they fit; what damage is said to be."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from conftest import random_llama, word_tokenizer
from litereason import LatentConfig, LiteReasonError, attach, detach, load, save
from litereason.errors import ModelError
from litereason.model import has_latents
from litereason.projector import PROJECTORS

TAG = "<implicit_thought>4</implicit_thought>"
EMBEDDINGS, BLOCK = "model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight"
OTHERS = ["model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight"]
WEIGHTS = [EMBEDDINGS, BLOCK, *OTHERS]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain checkpoint in float64."""
    words = word_tokenizer()
    return save(random_llama(words), tmp_path_factory.mktemp("base") / "plain", words)


def with_latents(path, kind="mlp", **options):
    """The checkpoint at `path` with latent steps, the projector's weights moved at random."""
    model, tokenizer = load(path, **options)
    attach(model, tokenizer, LatentConfig(projector=kind))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.latent_projector.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def outputs(model):
    """Greedy ids of two prompts that begin with a thought, and the logits over them."""
    tag = word_tokenizer().convert_tokens_to_ids(TAG)
    ids = torch.tensor([[1, 8, 9, tag], [1, 11, 12, tag]])
    mask = torch.ones_like(ids)
    ids = model.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False)
    with torch.no_grad():
        return ids, model(input_ids=ids).logits


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def change(model, name):
    with torch.no_grad():
        model.get_parameter(name).mul_(1.5)


def trained(base, name, path):
    model, tokenizer = load(base)
    change(model, name)
    save(model, path, tokenizer)


@pytest.mark.parametrize("projector_only", [False, True])
@pytest.mark.parametrize("kind", sorted(PROJECTORS))
def test_every_projector_round_trips(base, tmp_path, kind, projector_only):
    model = with_latents(base, kind)
    wanted = outputs(model)
    assert (wanted[0] == model.latent_config.latent_token_id).sum() >= 8
    again, tokenizer = load(save(model, tmp_path / "saved", projector_only=projector_only))
    assert again.latent_config == model.latent_config
    assert again.dtype == torch.float64
    assert equal(outputs(again), wanted)
    assert tokenizer.padding_side == "left"


def test_a_sharded_checkpoint_is_the_same_and_plain_transformers_opens_it(base, tmp_path):
    model = with_latents(base)
    wanted = outputs(model)
    save(model, tmp_path / "saved", max_shard_size="20KB")
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 2
    assert equal(outputs(load(tmp_path / "saved")[0]), wanted)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float64)
    assert not has_latents(plain)
    ids = torch.tensor([[1, 8, 9, 38, 12, 13]])
    assert torch.equal(plain(ids).logits, load(base)[0](ids).logits)


def test_projector_only_holds_no_base_weights(base, tmp_path):
    save(with_latents(base, "pause"), tmp_path / "saved", projector_only=True)
    names = {file.name for file in (tmp_path / "saved").iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert names == {"litereason.json", "projector.safetensors", "README.md"} | tokenizer
    assert (tmp_path / "saved" / "projector.safetensors").stat().st_size < 1000


def test_a_base_that_has_moved(base, tmp_path):
    shutil.copytree(base, tmp_path / "old")
    model = with_latents(tmp_path / "old")
    wanted = outputs(model)
    save(model, tmp_path / "saved", projector_only=True)
    save(model, tmp_path / "full")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(ModelError, match=r"old' cannot be loaded.*pass base="):
        load(tmp_path / "saved")
    assert equal(outputs(load(tmp_path / "saved", base=tmp_path / "new")[0]), wanted)
    assert equal(outputs(load(tmp_path / "saved", base=str(tmp_path / "full"))[0]), wanted)


@pytest.mark.parametrize("name", WEIGHTS)
def test_another_base_is_refused(base, tmp_path, name):
    save(with_latents(base, "pause"), tmp_path / "saved", projector_only=True)
    trained(base, name, tmp_path / "other")
    with pytest.raises(ModelError, match="trained on another base"):
        load(tmp_path / "saved", base=tmp_path / "other")


@pytest.mark.parametrize("name", WEIGHTS)
def test_projector_only_is_refused_after_the_policy_was_trained(base, tmp_path, name):
    model = with_latents(base, "pause")
    change(model, name)
    with pytest.raises(ModelError, match="lose what the policy learned"):
        save(model, tmp_path / "saved", projector_only=True)
    assert not (tmp_path / "saved").exists()


def test_a_base_in_another_number_format_is_recognised(base, tmp_path):
    save(with_latents(base), tmp_path / "saved", projector_only=True)
    model, _ = load(tmp_path / "saved", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    trained(base, EMBEDDINGS, tmp_path / "other")
    with pytest.raises(ModelError, match=r"float64, found .* in bfloat16"):
        load(tmp_path / "saved", base=tmp_path / "other", dtype=torch.bfloat16)


@pytest.mark.parametrize("kind", ["mlp", "rms", "pause"])
def test_the_projector_stays_float32_beside_bfloat16(base, tmp_path, kind):
    model = with_latents(base, kind, dtype=torch.bfloat16)
    wanted = outputs(model)
    save(model, tmp_path / "full")
    save(model, tmp_path / "projector", projector_only=True)
    saved = [tmp_path / "full", tmp_path / "projector"]
    for each in [model, *(load(path, dtype=torch.bfloat16)[0] for path in saved)]:
        assert each.dtype == torch.bfloat16
        assert {p.dtype for p in each.latent_projector.parameters()} == {torch.float32}
        assert equal(outputs(each), wanted)


def test_projector_only_from_a_full_checkpoint(base, tmp_path):
    model = with_latents(base)
    save(model, tmp_path / "full")
    save(load(tmp_path / "full")[0], tmp_path / "saved", projector_only=True)
    assert equal(outputs(load(tmp_path / "saved")[0]), outputs(model))
    with pytest.raises(ModelError, match="full model"):
        load(tmp_path / "full", base=base)


@pytest.mark.parametrize("loaded", [False, True])
def test_detach_gives_back_the_plain_model(base, tmp_path, loaded):
    plain, tokenizer = load(base)
    ids = torch.tensor([[1, 8, 4, 38, 12, 13]])
    wanted, kind = plain(ids).logits, type(plain)
    model = with_latents(base)
    if loaded:
        model, tokenizer = load(save(model, tmp_path / "full"))
    assert detach(model) is model
    assert type(model) is kind
    assert type(model.model) is type(plain.model)
    assert torch.equal(model(ids).logits, wanted)
    assert set(model.state_dict()) == set(plain.state_dict())
    assert "litereason" not in model.config.to_dict()
    with pytest.raises(ModelError, match="no latent steps"):
        detach(model)
    attach(model, tokenizer, LatentConfig(projector="pause"))
    new = outputs(model)
    assert equal(outputs(load(save(model, tmp_path / "again", projector_only=True))[0]), new)


def test_projector_only_on_a_detached_trained_policy_loads_or_is_refused(base, tmp_path):
    model = with_latents(base)
    change(model, BLOCK)
    attach(detach(model), load(base)[1])
    try:
        save(model, tmp_path / "saved", projector_only=True)
    except ModelError:
        return
    assert equal(outputs(load(tmp_path / "saved")[0]), outputs(model))


def test_a_model_without_latent_steps_has_no_projector_to_save(base, tmp_path):
    model, tokenizer = load(base)
    with pytest.raises(ModelError, match="attach them first"):
        save(model, tmp_path / "saved", tokenizer, projector_only=True)
    with pytest.raises(ModelError, match="pass tokenizer="):
        save(model, tmp_path / "saved")


@pytest.mark.parametrize("projector_only", [False, True])
def test_the_model_card(base, tmp_path, projector_only):
    save(with_latents(base, "rms"), tmp_path / "saved", projector_only=projector_only)
    card = ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "litereason"
    assert card.data.pipeline_tag == "text-generation"
    assert "base_model" not in card.data.to_dict()  # a local path is nobody else's
    assert "`rms`" in card.text and "<implicit_thought>" in card.text
    assert str(base.parent) not in card.content


SETTINGS = [b"", b"[]", b"null", b"\xff\xfe", "cut", {"depth": "3"}, {"depth": 0}, {"newer": 1}]
SETTINGS += [{"projector": "nope"}, {"base": "x"}, {"base": {"digest": "0"}}]
DAMAGE = [("litereason.json", content) for content in SETTINGS]
DAMAGE += [("projector.safetensors", content) for content in (b"", "cut", "gone")]
DAMAGE += [("tokenizer.json", content) for content in ("cut", "gone")]


def damage(path, content):
    data = path.read_bytes()
    if content == "gone":
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(data) | content))
    else:
        path.write_bytes(data[: len(data) // 2] if content == "cut" else content)


@pytest.mark.parametrize("file, content", DAMAGE)
def test_a_damaged_projector_checkpoint_is_named(base, tmp_path, file, content):
    save(with_latents(base), tmp_path / "saved", projector_only=True)
    damage(tmp_path / "saved" / file, content)
    with pytest.raises(LiteReasonError) as error:
        load(tmp_path / "saved", base=base)
    wanted = tmp_path / "saved" / ("" if file == "tokenizer.json" else file)
    assert str(wanted) in str(error.value)


@pytest.mark.parametrize("content", ["cut", "gone"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_full_checkpoint_is_named(base, tmp_path, file, content):
    save(with_latents(base, "pause"), tmp_path / "saved")
    damage(tmp_path / "saved" / file, content)
    with pytest.raises(ModelError, match=str(tmp_path / "saved")):
        load(tmp_path / "saved")
