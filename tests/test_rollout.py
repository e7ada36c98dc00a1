"""Rollouts: the distribution of plain `generate`, whatever shares the batch, and the latents kept."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

import architectures
import litereason
import naive
from conftest import random_llama
from litereason import rollout
from litereason.model import backbone
from litereason.rollout import draws, pick, roll_out

NEW = 24


def settings(tokenizer, **changes):
    return GenerationConfig(
        **{
            "max_new_tokens": NEW,
            "do_sample": True,
            "top_k": 1,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "disable_compile": True,
        }
        | changes
    )


def batch_of(model, tokenizer):
    """Prompts of several lengths, each several times, in no order; what the naive loop makes of them."""
    prompts = [architectures.prompts_of(tokenizer)[k] for k in (0, 1, 0, 3, 2, 1, 0)]
    return prompts, [naive.greedy(model, tokenizer, p, NEW) for p in prompts]


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Gemma 3 (text)", "GPT-2"])
@pytest.mark.parametrize("at_once", [None, 2])
def test_the_most_likely_completions_are_the_naive_loops(family, at_once):
    model, tokenizer = architectures.make(family)
    prompts, expected = batch_of(model, tokenizer)
    made = roll_out(model, prompts, settings(tokenizer), draws((0,), range(7), NEW), at_once)
    assert [r.ids for r in made] == expected
    assert sum(ids.count(model.latent_tags.latent_token_id) for ids in expected) >= 5


def test_the_kept_latents_are_what_stood_at_the_slots(latent_llama, words):
    prompts, expected = batch_of(latent_llama, words)
    made = roll_out(latent_llama, prompts, settings(words), draws((0,), range(7), NEW))
    latent_id = latent_llama.latent_tags.latent_token_id
    for prompt, ids, done in zip(prompts, expected, made, strict=True):
        inputs = naive.inputs_of(latent_llama, prompt + ids)[len(prompt) :]
        wanted = inputs[torch.tensor(ids) == latent_id]
        torch.testing.assert_close(done.latents, wanted.detach(), rtol=1e-9, atol=1e-9)


WARPERS = [
    {"top_k": 0},
    {"top_k": 20, "top_p": 0.8, "temperature": 0.7},
    {"top_k": 0, "min_p": 0.05, "temperature": 1.3, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("warpers", WARPERS)
@pytest.mark.parametrize("kind", ["latent", "plain"])
def test_scores_are_those_of_plain_generate(words, monkeypatch, warpers, kind):
    """Forced sampling: at every step of every row, the scores that `generate` gives that very prefix."""
    model = random_llama(words)
    if kind == "latent":
        litereason.attach(model, words)
    seen = []
    monkeypatch.setattr(
        rollout, "pick", lambda scores, uniform: seen.append(scores) or pick(scores, uniform)
    )
    prompts = [architectures.prompts_of(words)[k] for k in (0, 0, 3)]
    config = settings(words, max_new_tokens=12, **warpers)
    made = roll_out(model, prompts, config, draws((4,), range(3), 12))
    assert len({tuple(r.ids) for r in made}) == 3
    alive = sorted(range(3), key=lambda i: len(prompts[i]))
    rows = {k: i for k, i in enumerate(alive)}
    for step, scores in enumerate(seen):
        for place, row in rows.items():
            if step >= len(made[row].ids):
                continue
            prefix = torch.tensor([prompts[row] + made[row].ids[:step]])
            config.max_new_tokens = 1
            output = model.generate(
                prefix, generation_config=config, output_scores=True, return_dict_in_generate=True
            )
            assert place < len(scores)
            torch.testing.assert_close(scores[place], output.scores[0][0], rtol=1e-4, atol=1e-4)
        if any(step + 1 >= len(made[row].ids) for row in rows.values()):
            break  # from here on rows leave, and places change


def test_a_completion_does_not_depend_on_its_company(latent_llama, words):
    prompts, _ = batch_of(latent_llama, words)
    config = settings(words, top_k=0)
    together = roll_out(latent_llama, prompts, config, draws((1,), range(7), NEW))
    assert len({len(r.ids) for r in together}) > 1, "some rows leave before others"
    for row, prompt in enumerate(prompts):
        (alone,) = roll_out(latent_llama, [prompt], config, draws((1,), [row], NEW))
        assert alone.ids == together[row].ids
        torch.testing.assert_close(alone.latents, together[row].latents)


def test_a_prompt_is_computed_once_and_finished_rows_leave(latent_llama, words):
    prompts = [architectures.prompts_of(words)[1]] * 5
    seen = []
    handle = backbone(latent_llama).norm.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[:2])
    )
    ending = [words.eos_token_id, *range(5, 20)]  # so that rows end, at different times
    config = settings(words, top_k=0, eos_token_id=ending)
    made = roll_out(latent_llama, prompts, config, draws((5,), range(5), NEW))
    handle.remove()
    prefill, steps = [s for s in seen if s[0] == 1 and s[1] > 1], [s for s in seen if s[1] == 1]
    assert sum(s[1] for s in prefill) <= len(prompts[0])
    lengths = [len(r.ids) for r in made]
    assert min(lengths) < max(lengths)
    assert min(s[0] for s in steps[-2:]) < 5, "rows have left"


def test_padding_that_no_row_needs_is_dropped(latent_llama, words, monkeypatch):
    """The longest prompt ends at once; the others go on to the last position, without its columns."""
    short, long, *_ = architectures.prompts_of(words)
    prompts = [long, short, short]
    (first,) = roll_out(latent_llama, [long], settings(words), draws((0,), [0], NEW))
    others = roll_out(latent_llama, [short], settings(words), draws((0,), [0], NEW))[0].ids
    assert first.ids[0] not in others
    config = settings(words, eos_token_id=first.ids[0])
    dropped = []
    inner = rollout.drop_columns
    monkeypatch.setattr(
        rollout, "drop_columns", lambda cache, n: dropped.append(n) or inner(cache, n)
    )
    made = roll_out(latent_llama, prompts, config, draws((0,), range(3), NEW))
    assert [r.ids for r in made] == [first.ids[:1], others, others]
    assert dropped == [len(long) - len(short)] and len(others) == NEW


@pytest.mark.parametrize("rule", ["max_thoughts", "min_new_tokens"])
def test_what_counts_from_the_prompts_end_does_so_without_padding_too(latent_llama, words, rule):
    """Long prompts leave early; a completion of a short one is as it is alone."""
    short, long, *_ = architectures.prompts_of(words)
    prompts = [long * 2, long * 2, short, short, short]
    ending = [words.eos_token_id, *range(5, 16)]
    changes = {"min_new_tokens": 4} if rule == "min_new_tokens" else {}
    switches = {"max_thoughts": 1} if rule == "max_thoughts" else {}
    config = settings(words, top_k=0, eos_token_id=ending, **changes)
    latent_id = latent_llama.latent_tags.latent_token_id
    for seed in range(12):
        made = roll_out(latent_llama, prompts, config, draws((seed,), range(5), NEW), **switches)
        for row, prompt in enumerate(prompts):
            uniform = draws((seed,), [row], NEW)
            (alone,) = roll_out(latent_llama, [prompt], config, uniform, **switches)
            assert made[row].ids == alone.ids
            if rule == "max_thoughts":
                slots = [token == latent_id for token in alone.ids]
                started = slots[0] + sum(b and not a for a, b in itertools.pairwise(slots))
                assert started <= 1
            else:
                assert len(alone.ids) >= 4


def test_switches_reach_the_rollout(latent_llama, words):
    prompts, _ = batch_of(latent_llama, words)
    config, uniform = settings(words, top_k=0), draws((0,), range(7), NEW)
    latent_id = latent_llama.latent_tags.latent_token_id
    for switches, test in (
        ({"max_thoughts": 0}, lambda runs: not runs),
        ({"max_latent_steps": 1}, lambda runs: runs and max(runs) == 1),
        ({}, lambda runs: max(runs) > 1),
    ):
        made = roll_out(latent_llama, prompts[:3], config, uniform[:3], **switches)
        runs = []
        for done in made:
            for k, token in enumerate(done.ids):
                if token == latent_id:
                    if k and done.ids[k - 1] == latent_id:
                        runs[-1] += 1
                    else:
                        runs.append(1)
        assert test(runs), switches


def test_draws_belong_to_a_row():
    whole = draws((3, 0, 7), range(4), 16)
    assert torch.equal(draws((3, 0, 7), [2], 16)[0], whole[2])
    assert not torch.equal(draws((3, 0, 8), [2], 16)[0], whole[2])
    assert bool((whole >= 0).all()) and bool((whole < 1).all())


def test_pick_inverts_the_distribution():
    odds = torch.tensor([0.0, 0.5, 0.0, 0.25, 0.25])
    uniform = torch.tensor([0.0, 0.4999, 0.5001, 0.7499, 0.7501, 0.9999999])
    found = pick(odds.log().expand(6, -1), uniform)
    assert found.tolist() == [1, 1, 3, 3, 4, 4]


@given(
    st.lists(st.floats(-30, 30) | st.just(-torch.inf), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_pick_never_draws_what_is_banned(scores, uniform):
    if max(scores) == -torch.inf:
        return
    found = int(pick(torch.tensor([scores]), torch.tensor([uniform], dtype=torch.float64))[0])
    assert scores[found] > -torch.inf
