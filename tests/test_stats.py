"""Intervals over items, paired differences, and what evaluation records add up to."""

import json

import numpy as np
import pytest

from litereason import files
from litereason.records import item_means, summarise, write_comparisons
from litereason.stats import RESAMPLES, interval, paired

HALF = np.array([0.0, 1.0] * 20)


def record(item: str, correct: bool | None = True, **changes) -> dict:
    """One completion: 10 discrete tokens, no thoughts, reward 1 if correct."""
    reward = None if correct is None else float(correct)
    kept = {"item": item, "correct": correct, "reward": reward, "discrete_tokens": 10}
    return kept | {"latent_steps": 0, "thoughts": 0, "truncated": False} | changes


def test_interval_of_equal_values_is_a_point():
    assert interval(np.full(7, 0.25)) == {"mean": 0.25, "low": 0.25, "high": 0.25}


def test_interval_is_that_of_the_binomial():
    found = interval(HALF)
    half_width = 1.96 * (0.5 * 0.5 / 40) ** 0.5
    assert found["mean"] == 0.5
    assert found["low"] == pytest.approx(0.5 - half_width, abs=0.02)
    assert found["high"] == pytest.approx(0.5 + half_width, abs=0.02)


def test_interval_shrinks_with_the_root_of_the_items():
    narrow, wide = interval(np.tile(HALF, 4)), interval(HALF)
    ratio = (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])
    assert ratio == pytest.approx(2, rel=0.1)


def test_paired_is_the_difference_by_item():
    found = paired(HALF, HALF[::-1])  # means are equal, every item differs
    assert (found["difference"], found["items"], found["p"]) == (0.0, 40, 1.0)
    assert found["high"] - found["low"] == pytest.approx(4 * 1.96 * (0.25 / 40) ** 0.5, abs=0.05)


def test_paired_sign_has_a_on_the_left():
    found = paired(HALF + 0.2, HALF)
    assert [found[key] for key in ("difference", "low", "high")] == pytest.approx([0.2] * 3)
    assert found["p"] == 1 / (RESAMPLES + 1)


def test_paired_p_value_is_that_of_the_sign_test():
    # 5 items that all differ alike: of 32 sign patterns, 2 are as extreme.
    assert paired(np.ones(5), np.zeros(5))["p"] == pytest.approx(2 / 32, abs=0.008)
    # Differences 3, 1: |mean| reaches 2 for ++ and --.
    assert paired(np.array([3.0, 1.0]), np.zeros(2))["p"] == pytest.approx(0.5, abs=0.02)
    # Differences 1, 1, -1, 0: |sum| reaches 1 always.
    assert paired(np.array([1.0, 1.0, -1.0, 0.0]), np.zeros(4))["p"] == 1.0


def test_item_means_average_over_each_items_samples():
    records = [record("a"), record("a", False), record("a", False, latent_steps=5), record("b")]
    assert item_means(records, "accuracy") == {"a": pytest.approx(1 / 3), "b": 1.0}
    assert item_means(records, "total_tokens") == {"a": pytest.approx(35 / 3), "b": 10.0}


def test_item_means_leave_unscored_samples_out():
    records = [record("a"), record("a", None), record("b", None)]
    assert item_means(records, "accuracy") == item_means(records, "reward") == {"a": 1.0}
    assert item_means(records, "discrete_tokens") == {"a": 10.0, "b": 10.0}


def test_summary_weighs_items_not_samples():
    records = [record("a")] * 8 + [record("b", False)] * 2
    figures = summarise(records)
    assert figures["accuracy"]["mean"] == 0.5
    assert (figures["items"], figures["samples"]) == (2, 5.0)


def test_summary_by_hand():
    records = [
        record("a", latent_steps=6, thoughts=2),
        record("a", False, latent_steps=3, thoughts=1, discrete_tokens=20, truncated=True),
        record("b", None),
        record("b"),
    ]
    figures = summarise(records)
    means = {name: figures[name]["mean"] for name in ("accuracy", "reward", "trigger_rate")}
    assert means == {"accuracy": 0.75, "reward": 0.75, "trigger_rate": 0.5}
    tokens = ("discrete_tokens", "latent_steps", "total_tokens")
    assert [figures[name]["mean"] for name in tokens] == [12.5, 2.25, 14.75]
    assert figures["steps_per_thought"] == 3.0
    assert (figures["truncated"], figures["unscored"]) == (0.25, 1)


def test_summary_of_what_cannot_be_scored_has_no_accuracy():
    figures = summarise([record("a", None), record("b", None)])
    assert (figures["accuracy"], figures["reward"], figures["unscored"]) == (None, None, 2)
    assert figures["steps_per_thought"] is None
    assert figures["discrete_tokens"]["mean"] == 10.0


def test_ten_identical_samples_tell_no_more_than_one():
    once = [record(f"{i}", bool(right)) for i, right in enumerate(HALF)]
    assert summarise(once * 10)["accuracy"] == summarise(once)["accuracy"]


def write_arm(run, arm: str, records: list[dict], finished: bool = True) -> None:
    files.write_jsonl(run / "eval" / arm / "records.jsonl", records)
    if finished:
        files.write_json(run / "eval" / arm / "summary.json", {})


def test_comparisons_pair_the_items_that_both_arms_scored(tmp_path):
    # Another order, another number of samples, an item of one arm only, an unscored one.
    write_arm(tmp_path, "rl", [record("c"), record("b"), record("a"), record("x"), record("d")])
    base = [record("a", False), record("a"), record("b"), record("c", False), record("d", None)]
    write_arm(tmp_path, "base", base)
    found = json.loads(write_comparisons(tmp_path).read_text())
    assert [(row["a"], row["b"], row["metric"]) for row in found] == [("rl", "base", "accuracy")]
    assert (found[0]["difference"], found[0]["items"]) == (0.5, 3)  # .5, 0, 1


def test_comparisons_match_items_whatever_their_order(tmp_path):
    records = [record(f"{i}", bool(right)) for i, right in enumerate(HALF)]
    write_arm(tmp_path, "rl", records)
    write_arm(tmp_path, "base", records[::-1])
    (row,) = json.loads(write_comparisons(tmp_path).read_text())
    assert (row["low"], row["high"], row["p"]) == (0, 0, 1)


def test_comparisons_take_finished_arms_only(tmp_path):
    write_arm(tmp_path, "rl", [record("a")])
    write_arm(tmp_path, "base", [record("a")], finished=False)
    assert json.loads(write_comparisons(tmp_path).read_text()) == []


def test_comparisons_of_tokens_use_unscored_items_too(tmp_path):
    write_arm(tmp_path, "litereason", [record("a", None, latent_steps=4), record("b")])
    write_arm(tmp_path, "rl", [record("a", discrete_tokens=30), record("b")])
    found = json.loads(write_comparisons(tmp_path).read_text())
    differences = {row["metric"]: (row["difference"], row["items"]) for row in found}
    assert differences == {
        "accuracy": (0.0, 1),
        "discrete_tokens": (-10.0, 2),
        "total_tokens": (-8.0, 2),
    }
