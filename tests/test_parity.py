"""Generation and teacher forcing against the naive loop, in float64."""

import pytest
import torch

import litereason
import naive
from architectures import padded, prompts_of
from litereason.checkpoints import load, save
from litereason.model import constant_latents

NEW = 40


@pytest.fixture
def sampled(latent_llama, words):
    """Greedy completions of a batch, with the naive loop's beside them."""
    prompts = prompts_of(words)
    batch = padded(prompts, words.pad_token_id, "left")
    output = latent_llama.generate(
        **batch,
        max_new_tokens=NEW,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return prompts, batch, output, [naive.greedy(latent_llama, words, p, NEW) for p in prompts]


def test_greedy_batch_equals_the_naive_loop(latent_llama, words, sampled):
    prompts, batch, output, expected = sampled
    latent = latent_llama.latent_config.latent_token_id
    width = batch["input_ids"].shape[1]
    entries = []
    for row, (prompt, wanted) in enumerate(zip(prompts, expected, strict=True)):
        got = output.sequences[row, width : width + len(wanted)].tolist()
        assert got == wanted
        entries.append(got.index(latent))
        reference = naive.log_probs_of(latent_llama, prompt + wanted)[len(prompt) - 1 :]
        for k, token in enumerate(wanted):
            if token != latent:
                logits = output.logits[k][row].double().clone()
                logits[latent] = -torch.inf
                got_logp = logits.log_softmax(-1)[token]
                assert abs(float(got_logp - reference[k].detach())) < 1e-5  # logits come as float32
    assert sum(w.count(latent) for w in expected) > 20
    assert len(set(entries)) > 2, "rows should enter thoughts at different times"


def teacher_forced(batch, output, eos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Full ids and mask, everything after the end of sequence masked."""
    ids, width = output.sequences, batch["input_ids"].shape[1]
    ended = (ids[:, width:] == eos).cumsum(1)
    alive = ((ended == 0) | ((ended == 1) & (ids[:, width:] == eos))).long()
    return ids, torch.cat([batch["attention_mask"], alive], 1)


def masked_log_probs(model, ids, mask, **kwargs):
    latent = model.latent_config.latent_token_id
    logits = model(input_ids=ids, attention_mask=mask, **kwargs).logits
    logits = logits.index_fill(2, torch.tensor([latent]), -torch.inf)
    return logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize("mode", ["rounds", "columns", "constant"])
def test_teacher_forcing_equals_the_naive_loop(latent_llama, words, sampled, mode):
    prompts, batch, output, expected = sampled
    model = latent_llama
    ids, mask = teacher_forced(batch, output, words.eos_token_id)
    if mode == "columns":
        with torch.no_grad():
            got = masked_log_probs(model, ids, mask, use_cache=True)
    elif mode == "constant":
        with constant_latents(model):
            got = masked_log_probs(model, ids, mask)
    else:
        got = masked_log_probs(model, ids, mask, use_cache=False)
    width = batch["input_ids"].shape[1]
    for row, (prompt, wanted) in enumerate(zip(prompts, expected, strict=True)):
        reference = naive.log_probs_of(model, prompt + wanted)
        for k, token in enumerate(wanted):
            if token != model.latent_config.latent_token_id:
                difference = got[row, width - 1 + k] - reference[len(prompt) - 1 + k]
                assert abs(float(difference)) < 1e-9


@pytest.mark.parametrize("right_padded", [False, True])
def test_gradients_equal_the_naive_loop(latent_llama, words, sampled, right_padded):
    prompts, batch, output, expected = sampled
    model, latent = latent_llama, latent_llama.latent_config.latent_token_id
    rows = [p + w for p, w in zip(prompts, expected, strict=True)]
    ids, mask = teacher_forced(batch, output, words.eos_token_id)
    if right_padded:
        longest = max(map(len, rows))
        ids = torch.tensor([r + [words.pad_token_id] * (longest - len(r)) for r in rows])
        mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    chosen = (mask[:, 1:] == 1) & (mask[:, :-1] == 1) & (ids[:, 1:] != latent)
    masked_log_probs(model, ids, mask)[chosen].sum().backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in rows:
        log_probs = naive.log_probs_of(model, row)
        log_probs[torch.tensor(row[1:]) != latent].sum().backward()
    assert any("latent_projector" in name for name in got)
    for name, parameter in model.named_parameters():
        # Llama's RMS norms compute in float32 whatever the model's type: 1e-7 is their resolution.
        scale = parameter.grad.abs().max() + 1e-12
        assert float((got[name] - parameter.grad).abs().max() / scale) < 1e-5, name


def test_constant_latents_leave_the_projector_without_gradient(latent_llama, words, sampled):
    _, batch, output, _ = sampled
    ids, mask = teacher_forced(batch, output, words.eos_token_id)
    with constant_latents(latent_llama):
        masked_log_probs(latent_llama, ids, mask)[mask[:, 1:] == 1].nan_to_num(
            0, 0, 0
        ).sum().backward()
    assert all(p.grad is None for p in latent_llama.latent_projector.parameters())
    assert latent_llama.lm_head.weight.grad.abs().sum() > 0


def test_going_on_from_a_record_equals_going_in_one_go(latent_llama, words, sampled):
    prompts, _, _, expected = sampled
    whole = [p + w for p, w in zip(prompts, expected, strict=True)]
    for row in whole:
        for cut in range(len(row) - 8, len(row)):
            rest = latent_llama.generate(
                input_ids=torch.tensor([row[:cut]]),
                attention_mask=torch.ones(1, cut, dtype=torch.long),
                max_new_tokens=len(row) - cut,
                do_sample=False,
            )[0, cut:].tolist()
            assert rest == row[cut:]


def test_no_cache_and_chunked_prefill(latent_llama, words, sampled):
    _, batch, output, _ = sampled
    static = {"cache_implementation": "static"}
    for option in ({"use_cache": False}, {"prefill_chunk_size": 3}, static):
        again = latent_llama.generate(**batch, max_new_tokens=NEW, do_sample=False, **option)
        assert torch.equal(again, output.sequences)


def test_returned_sequences_and_beams_keep_their_thoughts(latent_llama, words):
    torch.manual_seed(0)
    latent = latent_llama.latent_config.latent_token_id
    prompts = prompts_of(words)
    batch = padded(prompts, words.pad_token_id, "left")
    width = batch["input_ids"].shape[1]
    for option in (
        {"do_sample": True, "num_return_sequences": 3, "top_k": 10, "top_p": 0.9},
        {"do_sample": False, "num_beams": 3, "num_return_sequences": 3},
    ):
        sequences = latent_llama.generate(**batch, max_new_tokens=24, **option)
        steps = 0
        for row, ids in enumerate(sequences.tolist()):
            new = ids[width:]
            new = new[: new.index(words.eos_token_id)] if words.eos_token_id in new else new
            while new and new[-1] == words.pad_token_id:
                new.pop()
            for k, token in enumerate(new):
                before = prompts[row // 3] + new[:k]
                owed = naive.owed_by_prompt(latent_llama, words, before)
                assert (token == latent) == (owed > 0)
            steps += new.count(latent)
        assert steps > 5


def test_saved_and_loaded_is_the_same(latent_llama, words, sampled, tmp_path):
    _, batch, output, _ = sampled
    save(latent_llama, tmp_path / "model")
    model, tokenizer = load(tmp_path / "model", dtype=torch.float64)
    assert model.latent_config == latent_llama.latent_config
    again = model.generate(**batch, max_new_tokens=NEW, do_sample=False)
    assert torch.equal(again, output.sequences)
    assert litereason.pending(again[0].tolist(), model.latent_tags) >= 0
    assert len(tokenizer) == len(words)


def test_plain_transformers_opens_the_checkpoint(latent_llama, words, tmp_path):
    from transformers import AutoModelForCausalLM

    save(latent_llama, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float64)
    ids = torch.tensor([[1, 8, 9, 10]])
    assert torch.equal(plain(ids).logits, latent_llama(ids).logits)


@pytest.mark.parametrize("mode", ["cache", "no cache", "constant"])
def test_slots_under_padding_are_nobodys(latent_llama, words, mode):
    latent = latent_llama.latent_config.latent_token_id
    ids = torch.tensor([[latent, latent, 1, 8, 9], [1, 8, 9, 10, 11]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    if mode == "constant":
        with constant_latents(latent_llama):
            logits = latent_llama(input_ids=ids, attention_mask=mask, use_cache=False).logits
    else:
        with torch.set_grad_enabled(mode != "cache"):
            logits = latent_llama(
                input_ids=ids, attention_mask=mask, use_cache=mode == "cache"
            ).logits
    alone = latent_llama(input_ids=ids[:1, 2:]).logits
    torch.testing.assert_close(logits[0, 2:], alone[0], rtol=1e-5, atol=1e-5)
