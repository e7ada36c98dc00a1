"""Every way to generate that transformers offers: latent steps stay exact in each."""

import importlib.util
import threading

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    MinPLogitsWarper,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TextIteratorStreamer,
    TopKLogitsWarper,
    TopPLogitsWarper,
    pipeline,
)

import litereason
import naive
from architectures import padded, prompts_of
from conftest import random_llama, word_tokenizer

NEW = 32
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
GREEDY = {"max_new_tokens": NEW, "do_sample": False}


@pytest.fixture
def batch(latent_llama, words):
    return padded(prompts_of(words), words.pad_token_id, "left")


def one(ids: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}


def completions(output: torch.Tensor, width: int, tokenizer) -> list[list[int]]:
    """New ids of each row, cut after the end of sequence."""
    rows = [row[width:].tolist() for row in output]
    end = tokenizer.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def check_rule(model, tokenizer, prompt: list[int], new: list[int]) -> int:
    """A slot stands where steps are owed and nowhere else; returns how many there are."""
    latent = model.latent_tags.latent_token_id
    for k, token in enumerate(new):
        owed = naive.owed_by_prompt(model, tokenizer, prompt + new[:k])
        assert (token == latent) == (owed > 0), (k, new)
    return new.count(latent)


def test_warped_scores_are_those_of_the_naive_loop(latent_llama, words, batch):
    """Every warper sees the logits of the naive loop, the latent id left out."""
    torch.manual_seed(1)
    output = latent_llama.generate(
        **batch,
        max_new_tokens=NEW,
        do_sample=True,
        repetition_penalty=1.2,
        temperature=0.8,
        top_k=12,
        top_p=0.95,
        min_p=0.02,
        output_scores=True,
        return_dict_in_generate=True,
    )
    penalty = RepetitionPenaltyLogitsProcessor(1.2)
    warpers = [TemperatureLogitsWarper(0.8), TopKLogitsWarper(12), TopPLogitsWarper(0.95)]
    warpers += [MinPLogitsWarper(0.02)]
    width, latent = batch["input_ids"].shape[1], latent_llama.latent_tags.latent_token_id
    compared = 0
    for row, new in enumerate(completions(output.sequences, width, words)):
        prompt = prompts_of(words)[row]
        with torch.no_grad():
            inputs = naive.inputs_of(latent_llama, prompt + new)[None]
            logits = latent_llama(inputs_embeds=inputs, use_cache=False).logits[0]
        for k, token in enumerate(new):
            if token == latent:
                continue
            ids = torch.tensor([prompt + new[:k]])
            scores = penalty(ids, logits[None, len(prompt) + k - 1].float())
            scores[:, latent] = -torch.inf
            for warper in warpers:
                scores = warper(ids, scores)
            got = output.scores[k][row].log_softmax(-1)
            torch.testing.assert_close(got, scores[0].log_softmax(-1), atol=1e-4, rtol=1e-4)
            compared += 1
    assert compared > 60


@pytest.mark.parametrize("option", [{}, {"do_sample": True, "top_k": 10}], ids=["beams", "sampled"])
def test_beam_scores_are_sums_of_naive_log_probabilities(latent_llama, words, batch, option):
    torch.manual_seed(0)
    output = latent_llama.generate(
        **batch,
        **{"max_new_tokens": 20, "num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0},
        **option,
        output_scores=True,
        return_dict_in_generate=True,
    )
    width, latent = batch["input_ids"].shape[1], latent_llama.latent_tags.latent_token_id
    steps = 0
    for row, new in enumerate(completions(output.sequences, width, words)):
        prompt = prompts_of(words)[row // 3]
        while new and new[-1] == words.pad_token_id:
            new.pop()
        steps += check_rule(latent_llama, words, prompt, new)
        if option:
            continue
        log_probs = naive.log_probs_of(latent_llama, prompt + new)[len(prompt) - 1 :]
        wanted = log_probs[torch.tensor(new) != latent].sum()
        assert float(output.sequences_scores[row]) == pytest.approx(
            float(wanted.detach()), abs=1e-3
        )
    assert steps > 20


def test_static_cache_without_padding(latent_llama, words):
    """`generate` drops a mask of ones; the places of a static cache not yet used must stay unseen."""
    for prompt in prompts_of(words):
        expected = naive.greedy(latent_llama, words, prompt, NEW)
        output = latent_llama.generate(**one(prompt), **GREEDY, cache_implementation="static")
        assert output[0, len(prompt) :][: len(expected)].tolist() == expected


def test_hybrid_and_static_caches_of_a_windowed_model(batch):
    from architectures import make

    model, _ = make("Mistral")
    expected = model.generate(**batch, **GREEDY)
    for option in ({"cache_implementation": "static"}, {"prefill_chunk_size": 4}):
        assert torch.equal(model.generate(**batch, **GREEDY, **option), expected)


@pytest.mark.skipif(
    importlib.util.find_spec("optimum") is None, reason="optimum-quanto is not installed"
)
def test_quantized_cache(latent_llama, words, batch):
    model = latent_llama.float()
    settings = {"backend": "quanto", "nbits": 4, "q_group_size": 8, "residual_length": 8}
    output = model.generate(
        **batch, **GREEDY, cache_implementation="quantized", cache_config=settings
    )
    width = batch["input_ids"].shape[1]
    new = completions(output, width, words)
    steps = [check_rule(model, words, p, n) for p, n in zip(prompts_of(words), new, strict=True)]
    assert sum(steps) > 10


@pytest.mark.parametrize("helper", ["lookup", "plain", "latent"])
def test_assisted_decoding(latent_llama, words, helper):
    """Proposals, right or wrong, with thoughts or without, change nothing in greedy text."""
    plain = random_llama(words)
    options = {
        "lookup": {"prompt_lookup_num_tokens": 3},
        "plain": {"assistant_model": plain},
        "latent": {"assistant_model": litereason.attach(random_llama(words), word_tokenizer())},
    }
    for prompt in prompts_of(words):
        expected = naive.greedy(latent_llama, words, prompt, NEW)
        output = latent_llama.generate(**one(prompt), **GREEDY, **options[helper])
        assert output[0, len(prompt) :].tolist() == expected


def test_stop_strings(latent_llama):
    """A thought before the stop string does not hide it."""
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(ALPHABET)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, extra_special_tokens=["<|latent|>"], eos_token="<end>"
    )
    model = litereason.attach(random_llama(letters, pad_token_id=None, bos_token_id=None), letters)
    prompt = letters("So <implicit_thought>3</implicit_thought>")["input_ids"]
    expected = naive.greedy(model, letters, prompt, NEW)
    text = letters.decode(expected, skip_special_tokens=True)
    stop = next(text[k : k + 2] for k in range(5, 20) if text[k : k + 2].isascii())
    output = model.generate(**one(prompt), **GREEDY, stop_strings=[stop], tokenizer=letters)
    made = letters.decode(output[0, len(prompt) :], skip_special_tokens=True)
    assert made == text[: text.index(stop) + 2]
    assert output[0, len(prompt) :].tolist() == expected[: output.shape[1] - len(prompt)]


def test_pipeline_and_its_switches(latent_llama, words):
    write = pipeline("text-generation", model=latent_llama, tokenizer=words)
    prompt = words.decode(prompts_of(words)[3][1:])  # it ends with a tag
    made = write(prompt, max_new_tokens=12, do_sample=False, return_full_text=False)
    ids = words(prompt)["input_ids"]
    expected = latent_llama.generate(**one(ids), max_new_tokens=12, do_sample=False)[0, len(ids) :]
    assert latent_llama.latent_tags.latent_token_id in expected
    assert made[0]["generated_text"] == words.decode(expected, skip_special_tokens=True)
    off = write(prompt, max_new_tokens=12, do_sample=False, return_full_text=False, latent=False)
    assert off != made


def test_iterator_streamer_gives_the_text(latent_llama, words):
    prompt = prompts_of(words)[3]
    streamer = TextIteratorStreamer(words, skip_prompt=True, skip_special_tokens=True)
    thread = threading.Thread(
        target=latent_llama.generate, kwargs={**one(prompt), **GREEDY, "streamer": streamer}
    )
    thread.start()
    text = "".join(streamer)
    thread.join()
    expected = latent_llama.generate(**one(prompt), **GREEDY)[0, len(prompt) :].tolist()
    assert text == litereason.read_completion(expected, words, latent_llama.latent_tags).text


def test_a_kept_cache_goes_on(latent_llama, words):
    """Turn after turn over one cache equals one go: multi-turn use."""
    prompt = prompts_of(words)[0]
    whole = naive.greedy(latent_llama, words, prompt, NEW)
    first = latent_llama.generate(
        **one(prompt), max_new_tokens=9, do_sample=False, return_dict_in_generate=True
    )
    rest = latent_llama.generate(
        **one(first.sequences[0].tolist()),
        max_new_tokens=NEW - 9,
        do_sample=False,
        past_key_values=first.past_key_values,
    )
    assert rest[0, len(prompt) :].tolist() == whole


def test_bfloat16_base_with_a_float32_projector(words):
    model = litereason.attach(random_llama(words).bfloat16(), words)
    assert {p.dtype for p in model.latent_projector.parameters()} == {torch.float32}
    ids = padded(prompts_of(words), words.pad_token_id, "left")
    output = model.generate(**ids, **GREEDY)
    assert int((output == model.latent_tags.latent_token_id).sum()) > 10
    model(output, use_cache=False).logits.float().sum().backward()
    gradients = [p.grad for p in model.latent_projector.parameters()]
    assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in gradients)
