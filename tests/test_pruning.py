"""Sentences that the prompt tells: what reasoning adds to each, against a loop of one pass a token."""

import pytest
import torch

from conftest import random_llama
from litereason import cost, files
from litereason.cli import main
from litereason.errors import ConfigError
from litereason.pruning import gains, log_probs, prune
from litereason.stages import CollectConfig

pytest.importorskip("pysbd")

PROMPT = [1, 7, 9, 12, 6]
#         0        1              2     3   4             5
TEXT = "\n w5 w6\n w7 w8 w9 w9\n w3\n\n w4 w4 w1\n w2 \\boxed{No}\n"


@pytest.fixture
def model(words):
    return random_llama(words)


def one_by_one(model, ids: list[int], start: int) -> list[float]:
    """Log-probability of `ids` from `start` on, a forward pass a token."""
    found = []
    for k in range(start, len(ids)):
        logits = model(input_ids=torch.tensor([ids[:k]])).logits[0, -1]
        found.append(logits.log_softmax(-1)[ids[k]].item())
    return found


def naive_gains(model, words) -> list[float | None]:
    """The same, by hand: which tokens each sentence has is written out."""
    ids = words(TEXT, add_special_tokens=False)["input_ids"]
    whole = one_by_one(model, PROMPT + ids, len(PROMPT))
    found: list[float | None] = []
    # (with its white space, from, to): "w5 w6", "w7 w8 w9 w9", "w3", a blank line, "w4 w4 w1", the answer
    found: list[float | None] = [None]
    for lead, first, last in [
        (0, 1, 3),
        (3, 4, 8),
        (8, 9, 10),
        (0, 0, 0),
        (10, 12, 15),
        (15, 16, 18),
    ]:
        if last - first < 2:
            found.append(None)
            continue
        alone = one_by_one(model, PROMPT + ids[lead:last], len(PROMPT))[first - lead :]
        added = [a - b for a, b in zip(whole[first:last], alone, strict=True)][1:]
        found.append(sum(added) / len(added))
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_gains_are_those_of_a_pass_a_token(model, words, batch_size):
    found = gains(model, words, PROMPT, TEXT, batch_size)
    assert found == pytest.approx(naive_gains(model, words), abs=1e-9)
    assert (
        abs(found[1]) < 1e-9 and abs(found[2]) > 1e-3
    )  # nothing but a line break came before the first


def test_passages_of_all_lengths_share_a_prompt(model):
    passages = [[5, 6, 7], [8], [9, 9, 9, 9, 9]]
    for found, ids in zip(log_probs(model, PROMPT, passages), passages, strict=True):
        expected = one_by_one(model, PROMPT + ids, len(PROMPT))
        assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_sentences_that_gain_less_are_left_out_and_the_rest_stays_as_it_is(model, words):
    added = naive_gains(model, words)
    least = (added[2] + added[5]) / 2  # between the two that differ
    stays, goes = (" w7 w8 w9 w9\n", " w4 w4 w1\n")[:: 1 if added[2] > added[5] else -1]
    found = prune(model, words, [(PROMPT, TEXT), (PROMPT, " w2 \\boxed{No}")], least)
    expected = TEXT.replace(goes, "")
    expected = expected.replace(" w5 w6\n", "") if added[1] < least else expected
    assert stays in found.texts[0] and found.texts == [expected, " w2 \\boxed{No}"]
    assert (found.sentences, found.left_out) == (4, 1 + (added[1] < least))


def test_the_answer_and_what_cannot_be_judged_stay(model, words):
    everything = prune(model, words, [(PROMPT, TEXT)], float("inf"))
    assert everything.texts == ["\n w3\n\n w2 \\boxed{No}\n"] and everything.left_out == 3
    nothing = prune(model, words, [(PROMPT, TEXT)], -float("inf"))
    assert nothing.texts == [TEXT] and nothing.left_out == 0


def test_it_costs_the_prompt_once_and_the_trace_twice(model, words):
    length = len(words(TEXT, add_special_tokens=False)["input_ids"])
    found = prune(model, words, 2 * [(PROMPT, TEXT)], 0.1).cost
    assert found.forward_positions == 2 * (len(PROMPT) + 2 * length)
    assert found.flops == 2 * cost.weights(model) * found.forward_positions


def test_a_tokenizer_that_knows_no_places_is_refused(model, words):
    class Slow:
        is_fast = False

    with pytest.raises(ConfigError, match="Slow does not say which characters a token is"):
        prune(model, Slow(), [(PROMPT, TEXT)], 0.1)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"prune": 0.1, "mode": "latent"}, "collect with --mode plain"),
        ({"prune": -0.1}, "--prune is -0.1; expected"),
        ({"prune": float("nan")}, "--prune is nan; expected"),
    ],
)
def test_settings_that_cannot_be_are_refused(told, says):
    with pytest.raises(ConfigError, match=says):
        CollectConfig(model="anything", **told)


def test_collected_traces_are_pruned(tiny_base, tmp_path, capsys):
    told = ["collect", "--model", tiny_base, "--run_dir", tmp_path, "--limit", 10, "--samples", 4]
    told += ["--max_new_tokens", 60, "--batch_size", 20, "--temperature", 1, "--top_p", 1]
    for name, more in (("whole", []), ("pruned", ["--prune", 1000])):
        assert main([str(word) for word in [*told, "--name", name, *more]]) == 0
    rows = {
        name: files.read_jsonl(tmp_path / "collect" / name / "traces.jsonl")
        for name in ("whole", "pruned")
    }
    assert [row["item"] for row in rows["pruned"]] == [row["item"] for row in rows["whole"]]
    short, long = (
        sum(len(row["completion"]) for row in rows[name]) for name in ("pruned", "whole")
    )
    assert short < long
    summary = files.read_json(tmp_path / "collect" / "pruned" / "summary.json")
    assert 0 < summary["left_out"] <= summary["sentences"]
    assert f"left out {summary['left_out']} of {summary['sentences']}" in capsys.readouterr().err
    parts = files.read_json(tmp_path / "collect" / "pruned" / "cost.json")
    assert parts["prune"]["forward_positions"] > 0
