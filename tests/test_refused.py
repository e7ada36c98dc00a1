"""Models that `attach` refuses, and what else must not go wrong without a word."""

import copy
import pickle

import pytest
import torch
import transformers

import litereason
from architectures import SHAPE, make
from conftest import random_llama, word_tokenizer
from litereason.errors import ConfigError, DataError, LatentError, ModelError
from litereason.sampling import SamplingConfig

WORDS = word_tokenizer()
IDS = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BART = {"d_model": 32, "decoder_layers": 1, "decoder_ffn_dim": 48, "decoder_attention_heads": 4}
REFUSED = {
    "MptForCausalLM": ({"d_model": 32, "n_heads": 4, "n_layers": 1}, "counts positions by itself"),
    "RoFormerForCausalLM": (SHAPE | {"is_decoder": True}, "counts positions by itself"),
    "RobertaForCausalLM": (SHAPE | {"is_decoder": True}, "counts positions by itself"),
    "XLMRobertaForCausalLM": (SHAPE | {"is_decoder": True}, "counts positions by itself"),
    "BartForCausalLM": (BART, "counts positions by itself"),
    "MarianForCausalLM": (BART | {"decoder_vocab_size": len(WORDS)}, "counts positions by itself"),
    "OpenAIGPTLMHeadModel": ({"n_embd": 32, "n_layer": 1, "n_head": 4}, "no KV cache"),
    "XLNetLMHeadModel": ({"d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 48}, "KV cache"),
    "ModernBertDecoderForCausalLM": (SHAPE, "does not pass token ids"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    settings, reason = REFUSED[name]
    settings = {k: v for k, v in settings.items() if k not in ("head_dim", "num_key_value_heads")}
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    model = kind(kind.config_class(**settings | IDS))
    with pytest.raises(ModelError, match=reason) as error:
        litereason.attach(model, WORDS)
    assert name in str(error.value)
    assert not hasattr(model.config, "litereason")


def test_continuous_batching_is_refused(latent_llama):
    settings = transformers.GenerationConfig(max_new_tokens=2)
    with pytest.raises(LatentError, match="continuous batching"):
        latent_llama.generate_batch(inputs=[[1, 8, 9]], generation_config=settings)


@pytest.mark.parametrize("other", ["fewer layers", "narrower"])
def test_a_cache_of_another_model_with_latents(latent_llama, words, other):
    change = {"num_hidden_layers": 2} if other == "fewer layers" else {"hidden_size": 16}
    stranger = litereason.attach(random_llama(words, **change), word_tokenizer())
    ids = torch.tensor([[1, 8, 9, 10]])
    cache = stranger(ids[:, :3], use_cache=True).past_key_values
    with pytest.raises(LatentError, match="another model"):
        latent_llama(ids[:, 3:], past_key_values=cache)


@pytest.mark.parametrize(
    "option",
    [{"max_latent_steps": "2"}, {"max_latent_steps": 2.5}, {"max_thoughts": 1.5}, {"latent": "no"}],
)
def test_switches_of_another_type(latent_llama, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        latent_llama.generate(torch.tensor([[1, 8]]), max_new_tokens=2, **option)


def test_temperature_that_is_no_number():
    with pytest.raises(ConfigError, match="temperature nan"):
        SamplingConfig(temperature=float("nan"))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_models_can_be_copied(latent_llama, way):
    ids = torch.tensor([[1, 8, 37, 4, 4, 9]])
    again = (
        pickle.loads(pickle.dumps(latent_llama)) if way == "pickle" else copy.deepcopy(latent_llama)
    )
    assert torch.equal(again(ids).logits, latent_llama(ids).logits)
    assert torch.equal(
        again.generate(ids, max_new_tokens=9, do_sample=False),
        latent_llama.generate(ids, max_new_tokens=9, do_sample=False),
    )
    assert type(again) is type(latent_llama)


def test_saving_takes_nothing_away(latent_llama, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("long work")
    with pytest.raises(ModelError, match="no checkpoint"):
        litereason.save(latent_llama, mine)
    with pytest.raises(ModelError, match="is a file"):
        litereason.save(latent_llama, mine / "thesis.txt")
    assert (mine / "thesis.txt").read_text() == "long work"
    litereason.save(latent_llama, tmp_path / "model")
    litereason.save(latent_llama, tmp_path / "model")  # an older checkpoint is replaced


def test_a_projector_is_not_saved_over_its_base(words, tmp_path):
    base = litereason.save(random_llama(words), tmp_path / "base", words)
    model = litereason.attach(*litereason.load(base))
    with pytest.raises(ModelError, match="the base itself"):
        litereason.save(model, base, projector_only=True)
    litereason.load(base)


def test_settings_of_another_type(latent_llama, tmp_path):
    path = litereason.save(latent_llama, tmp_path / "model") / "config.json"
    whole = path.read_text()
    for old, new in (
        ('"max_latent_steps": 32', '"max_latent_steps": "a"'),
        ('"tag": "implicit_thought"', '"tag": 5'),
        ('"latent_token": "<|latent|>"', '"latent_token": null'),
    ):
        assert old in whole
        path.write_text(whole.replace(old, new))
        with pytest.raises((ConfigError, ModelError, DataError)):
            litereason.load(tmp_path / "model")


def test_a_prefix_shows_its_thoughts(latent_llama, tmp_path, capsys):
    """`generate` streams dots for the thoughts of the prefix, too."""
    from litereason.streaming import stream

    path = litereason.save(latent_llama, tmp_path / "model")
    prefix = " w2<implicit_thought>3</implicit_thought> w4"
    stream(str(path), " w1", 4, 0, 1, 0, 0, prefix)
    assert capsys.readouterr().out.startswith(prefix.replace("> w4", ">●●● w4"))


def test_llama_4_has_its_backbone():
    model, _ = make("Llama 4 (text)")
    assert type(model.model).__name__ == "Llama4TextModel" and hasattr(
        model.model, "latent_token_id"
    )
