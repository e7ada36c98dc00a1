"""Input with latent slots that cannot be right is refused; switches of one `generate` call."""

import copy
import re

import pytest
import torch
import transformers
from transformers import DynamicCache

import litereason
import naive
from conftest import random_llama, word_tokenizer
from litereason.errors import ConfigError, LatentError, LiteReasonError, ModelError
from litereason.generation import read_completion
from litereason.sampling import encode
from litereason.traces import Replacement, training_rows

WORDS = word_tokenizer()
SLOT = WORDS.convert_tokens_to_ids("<|latent|>")
ONE, THREE, FOUR = (
    WORDS.convert_tokens_to_ids(f"<implicit_thought>{n}</implicit_thought>") for n in (1, 3, 4)
)
A, B = WORDS.convert_tokens_to_ids([" w3", " w4"])
NEW = 24
# Prompts after which the random model writes several tags.
PROMPTS = [[1, A, B], [1, B], [1, 12, 13, 14], [1, A, THREE, SLOT, SLOT, SLOT, B]]


@pytest.fixture(scope="module")
def model():
    """One model for all tests here: none changes it."""
    return litereason.attach(random_llama(WORDS), WORDS)


def generate(model, prompt: list[int], new: int = NEW, **options) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    options |= {"attention_mask": mask, "max_new_tokens": new, "do_sample": False}
    output = model.generate(ids, **options)
    return output[0, len(prompt) :].tolist()


def loop(model, prompt: list[int], cap: int = 99, thoughts: int = 99) -> list[int]:
    """`naive.greedy` with a cap on the steps of a thought and on thoughts that begin."""
    ids, owed, begun = list(prompt), 0, 0
    if prompt[-1] == SLOT:
        owed = naive.owed_by_prompt(model, WORDS, prompt)
        done = next(k for k, token in enumerate(reversed(prompt)) if token != SLOT)
        owed = max(0, min(owed + done, cap) - done)
    elif thoughts:
        owed = min(cap, naive.steps_after(model, WORDS, prompt))
        begun = int(owed > 0)
    while len(ids) < len(prompt) + NEW:
        if owed:
            ids.append(SLOT)
            owed -= 1
            continue
        with torch.no_grad():
            hidden = naive.hidden_of(model, naive.inputs_of(model, ids))[-1]
            logits = model.lm_head(hidden).index_fill(0, torch.tensor([SLOT]), -torch.inf)
        ids.append(int(logits.argmax()))
        if ids[-1] == WORDS.eos_token_id:
            break
        if begun < thoughts:
            owed = min(cap, naive.steps_after(model, WORDS, ids))
            begun += owed > 0
    return ids[len(prompt) :]


def runs(ids: list[int]) -> list[int]:
    marks = "".join("L" if i == SLOT else "." for i in ids)
    return [len(run) for run in re.findall("L+", marks)]


def test_the_reserved_token_in_a_users_text(model):
    zero = "<implicit_thought>0</implicit_thought>"
    for text in ("w1 <|latent|> w2", "<|latent|>", f"{zero}<|latent|>"):
        with pytest.raises(LatentError, match=r"Remove '<\|latent\|>' from the text"):
            encode(WORDS, text, model.latent_tags)
    tag = "<implicit_thought>1</implicit_thought>"
    with pytest.raises(LatentError, match="the prompt: position 2"):
        encode(WORDS, f"{tag}<|latent|><|latent|>", model.latent_tags)
    assert encode(WORDS, f"{tag}<|latent|> w1", model.latent_tags).count(SLOT) == 1
    assert encode(WORDS, f"{tag} w1", model.latent_tags).count(SLOT) == 1
    assert SLOT in encode(WORDS, "<|latent|>")  # of a model without latent steps


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ([SLOT, A], 0),
        ([1, A, SLOT], 2),
        ([1, ONE, SLOT, SLOT, A], 3),
        ([1, THREE, A, SLOT], 3),
        ([1, THREE, SLOT, A, SLOT], 4),
    ],
)
def test_generate_refuses_slots_that_no_tag_announces(model, prompt, place):
    with pytest.raises(LatentError, match=rf"row 0 of the prompt: position {place} .*announces"):
        generate(model, prompt)
    batch = torch.tensor([[1] + [A] * (len(prompt) - 1), prompt])
    with pytest.raises(LatentError, match=f"row 1 of the prompt: position {place}"):
        model.generate(input_ids=batch, attention_mask=torch.ones_like(batch), max_new_tokens=1)


def test_training_rows_refuse_the_reserved_token(model):
    pytest.importorskip("pysbd")
    how = Replacement(shares=(0.0,), loss_after="prompt")
    for text in (" w1\n w2 <|latent|> w3\n w4", "<|latent|> w1"):
        traces = [([1, A], " w1\n w2"), ([1, B], text)]
        with pytest.raises(LatentError, match=r"trace 2: position .*Remove '<\|latent\|>'"):
            training_rows(traces, how, WORDS, model.latent_tags)


def test_a_forward_refuses_a_slot_at_the_start(model):
    for use_cache in (False, True):
        with pytest.raises(LatentError, match=r"start of a sequence.*follow the tag"):
            model(torch.tensor([[SLOT, A, B]]), use_cache=use_cache)
        with pytest.raises(LatentError, match="start of a sequence"):
            padded = {"attention_mask": torch.tensor([[0, 0, 1, 1]]), "use_cache": use_cache}
            model(torch.tensor([[0, 0, SLOT, A]]), **padded)
        with pytest.raises(LatentError, match="start of a sequence"):
            model(torch.tensor([[SLOT]]), use_cache=use_cache)


def test_inputs_embeds_and_checkpointing(model):
    with pytest.raises(LatentError, match="Pass input_ids"):
        model.generate(inputs_embeds=torch.zeros(1, 2, 32, dtype=torch.float64))
    training = copy.deepcopy(model).train()
    training.gradient_checkpointing_enable()
    for use_cache in (False, None):
        with pytest.raises(LatentError, match=r"gradient_checkpointing_disable\(\)"):
            training(torch.tensor([[1, ONE, SLOT, A]]), use_cache=use_cache)
    training.gradient_checkpointing_disable()
    assert training(torch.tensor([[1, ONE, SLOT, A]])).logits.isfinite().all()


def test_a_cache_of_the_plain_model(model):
    plain = random_llama(WORDS)
    ids = torch.tensor([[1, A, ONE]])
    for rest in ([[SLOT]], [[SLOT, B]], [[B]]):
        cache = plain(ids, past_key_values=DynamicCache(config=plain.config)).past_key_values
        with pytest.raises(LatentError, match=r"holds 3 positions.*Fill it with this model"):
            model(torch.tensor(rest), past_key_values=cache)
    cache = plain(ids, past_key_values=DynamicCache(config=plain.config)).past_key_values
    with pytest.raises(LatentError, match="Fill it with this model"):
        generate(model, [1, A, ONE, SLOT], past_key_values=cache)
    own = model(ids, past_key_values=DynamicCache(config=model.config)).past_key_values
    got = model(torch.tensor([[SLOT, B]]), past_key_values=own).logits[0, -1]
    with torch.no_grad():
        rows = naive.inputs_of(model, [1, A, ONE, SLOT, B])
        wanted = model.lm_head(naive.hidden_of(model, rows)[-1])
    assert torch.allclose(got, wanted, atol=1e-6)


SIZES = dict(vocab_size=len(WORDS), num_hidden_layers=2, pad_token_id=0, eos_token_id=2)
HEADS = dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, head_dim=8)
# fmt: off
REFUSED = {
    "Mamba": (dict(state_size=4), "not a KV cache alone"),
    "FalconH1": (
        HEADS | dict(mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1),
        r"layers of type hybrid.*layers are all attention",
    ),
    "Qwen3Next": (
        HEADS | dict(layer_types=["linear_attention", "full_attention"], num_experts=2,
                     linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2,
                     linear_num_value_heads=2, num_experts_per_tok=1, moe_intermediate_size=16,
                     shared_expert_intermediate_size=16),
        r"layers of type linear_attention.*layers are all attention",
    ),
    "Gemma3n": (
        HEADS | dict(layer_types=["sliding_attention", "full_attention"], laurel_rank=4,
                     vocab_size_per_layer_input=len(WORDS), hidden_size_per_layer_input=8,
                     activation_sparsity_pattern=[0.0, 0.0], num_kv_shared_layers=0),
        r"per-layer embeddings.*Use a model without them",
    ),
    "OPT": (
        dict(num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=16),
        r"embeds tokens in 16 dimensions.*the same width",
    ),
    "T5": (dict(d_kv=8, d_ff=64, num_heads=4), r"encoder-decoder.*use a causal LM"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_architectures_that_are_refused(name):
    options, reason = REFUSED[name]
    config_class = getattr(transformers, f"{name}{'Text' * (name == 'Gemma3n')}Config")
    config = config_class(hidden_size=32, **SIZES, **options)
    kind = "ForConditionalGeneration" if name == "T5" else "ForCausalLM"
    plain = getattr(transformers, name + kind)(config)
    before = set(plain.state_dict())
    with pytest.raises(ModelError, match=rf"^{name}{kind} .*{reason}"):
        litereason.attach(plain, WORDS)
    assert set(plain.state_dict()) == before and not hasattr(plain.config, "litereason")


def test_what_is_no_causal_lm(words):
    for thing in (torch.nn.Linear(2, 2), random_llama(words).model):
        with pytest.raises(ModelError, match=f"causal LM, got {type(thing).__name__}"):
            litereason.attach(thing, words)


def test_attached_twice_and_detached(words):
    plain = random_llama(words)
    model = litereason.attach(plain, words)
    with pytest.raises(ModelError, match=r"call litereason.detach\(model\) first"):
        litereason.attach(model, words)
    litereason.detach(model)
    with pytest.raises(ModelError, match="no latent steps to take off"):
        litereason.detach(model)
    assert litereason.attach(model, words, litereason.LatentConfig(projector="pause")) is plain


@pytest.mark.parametrize("projector", ["mlp", "residual", "rms", "pause", "identity"])
def test_a_quantized_base(words, projector):
    plain = random_llama(words)
    plain.quantization_method = "x"
    config = litereason.LatentConfig(projector=projector)
    if projector in ("pause", "identity"):
        assert litereason.attach(plain, words, config).generate(max_new_tokens=3).shape[0] == 1
        return
    with pytest.raises(ModelError, match=rf"quantized \(x\).*'{projector}'.*projector='pause'"):
        litereason.attach(plain, words, config)
    assert type(plain).__mro__[1].__name__ != "LatentCausalLM"


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_latent_steps", 0), ("max_latent_steps", 33), ("max_thoughts", -1)],
)
def test_bounds_out_of_range(model, name, value):
    with pytest.raises(ConfigError, match=rf"{name} is {value}; expected") as found:
        generate(model, [1, A], **{name: value})
    assert isinstance(found.value, LiteReasonError)
    assert generate(model, [1, A], new=1, max_latent_steps=32)


@pytest.mark.parametrize(
    ("options", "caps"),
    [
        ({}, {}),
        ({"latent": False}, {"thoughts": 0}),
        ({"max_thoughts": 0}, {"thoughts": 0}),
        ({"max_thoughts": 1}, {"thoughts": 1}),
        ({"max_thoughts": 2}, {"thoughts": 2}),
        ({"max_latent_steps": 2}, {"cap": 2}),
        ({"max_latent_steps": 1, "max_thoughts": 1}, {"cap": 1, "thoughts": 1}),
    ],
)
def test_switches_equal_the_naive_loop(model, options, caps):
    found = [generate(model, prompt, **options) for prompt in PROMPTS]
    assert found == [loop(model, prompt, **caps) for prompt in PROMPTS]
    lengths = [runs(ids) for ids in found]
    assert all(n <= caps.get("cap", 99) for row in lengths for n in row)
    tags = sum(token in (ONE, THREE, FOUR) for ids in found for token in ids)
    assert tags > 4, "the model should write tags, or nothing is tested"
    if "thoughts" in caps:
        assert max(map(len, lengths)) == caps["thoughts"]


def test_switches_in_a_batch(model):
    """Rows that pad, begin thoughts at different times and have used up their thoughts."""
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    options = {"max_thoughts": 1, "max_latent_steps": 2, "max_new_tokens": NEW, "do_sample": False}
    output = model.generate(ids, attention_mask=mask, **options)[:, width:].tolist()
    for prompt, got in zip(PROMPTS, output, strict=True):
        wanted = loop(model, prompt, 2, 1)
        assert got[: len(wanted)] == wanted


def test_without_latents_the_plain_model_speaks(model):
    """`latent=False` is the plain model with one token less."""
    plain = random_llama(WORDS)
    for prompt in PROMPTS[:3]:
        got = generate(model, prompt, latent=False)
        assert got == generate(plain, prompt, suppress_tokens=[SLOT]) and SLOT not in got
        completion = read_completion(got, WORDS, model.latent_tags)
        assert completion.thoughts == 0 and {s.kind for s in completion.spans} == {"discrete"}


def test_thoughts_of_the_prompt(model):
    """A finished one does not count; one that was begun is finished, but by `latent=False`."""
    done, begun = [1, THREE, SLOT, SLOT, SLOT, A, B], [1, 6, FOUR, SLOT]
    assert len(runs(generate(model, done, max_thoughts=1))) == 1
    for bound in (0, 1):
        got = generate(model, begun, max_thoughts=bound)
        assert got == loop(model, begun, thoughts=bound)
        assert got[:3] == [SLOT] * 3 and got[3] != SLOT
        assert len(runs(got)) == 1 + bound
    assert runs(generate(model, begun, max_thoughts=0, max_latent_steps=3))[:1] == [2]
    assert generate(model, begun, latent=False).count(SLOT) == 0
    for bound in (0, 1):  # the thought of a tag at the end of the prompt is the completion's first
        assert runs(generate(model, [1, 6, FOUR], max_thoughts=bound)) == [4] * bound
