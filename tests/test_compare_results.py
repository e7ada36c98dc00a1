"""A comparison read, refused where arms were not judged alike, and told in figures: known answers."""

import itertools
import json
import random
import shutil

import numpy as np
import pytest
import yaml

from litereason import files, stats
from litereason.compare.pairs import pairs
from litereason.compare.results import rewrite_comparison, write_comparison
from litereason.errors import DataError
from litereason.records import summarise

SETTINGS = {
    "task": "stories",
    "task_options": {"events": 6},
    "split": "test",
    "limit": None,
    "max_new_tokens": 200,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "max_thoughts": None,
}
ABOUT = ("title", "trains", "goes_latent", "costs", "ablation", "status", "reason", "seeds")


def record(item: str, correct: bool | None = True, tokens: int = 10, latent: int = 0) -> dict:
    """One completion; reward 1 if correct."""
    return {
        "item": item,
        "correct": correct,
        "reward": None if correct is None else float(correct),
        "discrete_tokens": tokens,
        "latent_steps": latent,
        "thoughts": int(latent > 0),
        "truncated": False,
        "spans": [["tag", "<t>"], ["latent", latent], ["discrete", "ab"]],
        "metrics": {},
    }


def judge(home, arm: str, records: list[dict], summary=None, **settings) -> None:
    """An arm's evaluation in a run directory."""
    seed = int(home.name.removeprefix("seed-")) if home.name.startswith("seed-") else 4
    told = {"title": arm.title(), "task": "stories", "split": "test", "seed": seed, "mode": "plain"}
    folder = home / "eval" / arm
    files.write_jsonl(folder / "records.jsonl", records)
    files.write_json(folder / "summary.json", told | {"ablation": None} | (summary or {}))
    files.write_text(folder / "config.yaml", yaml.safe_dump({"settings": SETTINGS | settings}))


def mark(home, arm: str, status: str = "done", reason: str | None = None, cost=None) -> None:
    told = {"arm": arm, "status": status, "reason": reason, "stages": [], "cost": cost}
    files.write_json(home / "arms" / f"{arm}.json", told)


def compared(run) -> dict:
    path = write_comparison(run)
    assert path == run / "comparison.json"
    return json.loads(path.read_text())


def pair_of(found: dict, a: str, b: str, metric: str = "accuracy") -> dict:
    (one,) = [p for p in found["pairs"] if (p["a"], p["b"], p["metric"]) == (a, b, metric)]
    return one


def answers(rights: str, tokens: int = 10, latent: int = 0) -> list[dict]:
    """A record an item; `1` is right, `0` wrong, `-` cannot be scored."""
    right = {"1": True, "0": False, "-": None}
    return [record(f"i{n}", right[one], tokens, latent) for n, one in enumerate(rights)]


@pytest.fixture
def run(tmp_path):
    """Three arms under two seeds on eight items: RL gains 50 points, LiteReason half of that."""
    for seed, home in enumerate((tmp_path / "seed-0", tmp_path / "seed-1")):
        judge(home, "base", answers("10001000", 40))
        judge(home, "rl", answers("11101110", 60 + 20 * seed))
        judge(home, "litereason", answers("11001100", 12 + 8 * seed, latent=4), {"mode": "latent"})
    return tmp_path


def test_figures_by_hand(run):
    found = compared(run)
    top = {key: found[key] for key in ("task", "split", "items", "samples", "seeds")}
    assert top == {"task": "stories", "split": "test", "items": 8, "samples": 1, "seeds": [0, 1]}
    ours = found["arms"]["litereason"]
    figures = {name: (one["mean"], one["by_seed"]) for name, one in ours["figures"].items()}
    assert figures == {
        "accuracy": (0.5, [0.5, 0.5]),
        "reward": (0.5, [0.5, 0.5]),
        "discrete_tokens": (16, [12, 20]),
        "total_tokens": (20, [16, 24]),
        "latent_steps": (4, [4, 4]),
        "trigger_rate": (1, [1, 1]),
        "characters": (5, [5, 5]),
    }
    shares = {
        (other, kind): one["mean"]
        for other in ("base", "rl")
        for kind, one in ours["saved"][other].items()
    }
    # Base writes 40, RL 70: 24 and 54 less are written, 20 and 50 less taken with latent steps.
    assert shares == pytest.approx(
        {
            ("base", "discrete"): 24 / 40,
            ("base", "total"): 20 / 40,
            ("rl", "discrete"): 54 / 70,
            ("rl", "total"): 50 / 70,
        }
    )
    # Two seeds that say 60 and 80 tokens hardly bound their mean; no length is below 0.
    assert found["arms"]["rl"]["figures"]["discrete_tokens"]["low"] == 0
    assert (
        -1
        < ours["saved"]["rl"]["discrete"]["low"]
        < 0.7
        < 0.8
        < ours["saved"]["rl"]["discrete"]["high"]
        < 1
    )
    assert ours["recovered"]["mean"] == pytest.approx(0.5)
    assert found["arms"]["rl"]["recovered"] == {"mean": 1, "low": 1, "high": 1}
    assert pair_of(found, "litereason", "rl") | {"low": 0, "high": 0, "p": 0, "p_corrected": 0} == {
        "a": "litereason",
        "b": "rl",
        "metric": "accuracy",
        "difference": -0.25,
        "low": 0,
        "high": 0,
        "p": 0,
        "p_corrected": 0,
        "by_seed": [-0.25, -0.25],
        "items": 8,
        "seeds": [0, 1],
    }


def test_what_an_answer_takes_is_that_of_its_evaluation(run):
    told = {"forward_positions": 800, "flops": 4e6}
    for seed, factor in ((0, 1), (1, 3)):  # a cost in parts is their sum
        parts = {part: {k: factor * v / 2 for k, v in told.items()} for part in ("a", "b")}
        files.write_json(run / f"seed-{seed}/eval/rl/cost.json", parts)
    arms = compared(run)["arms"]
    assert arms["rl"]["answer"] == {
        "forward_positions": 200,
        "flops": 1e6,
    }  # eight items, mean of seeds
    assert arms["base"]["answer"] is None
    files.write_json(run / "seed-0/eval/rl/cost.json", {"all": {"watts": 1}})
    with pytest.raises(DataError, match=r"cost\.json is broken .*'watts'"):
        write_comparison(run)


def test_intervals_end_where_a_mean_can_be(tmp_path):
    for seed, latents in enumerate((0, 4)):  # two seeds that disagree leave room beyond 0 and 1
        rows = [*answers("1110", 10, latents)[seed:], *answers("1110", 10, 4)[:seed]]
        last = record("i9", seed == 0, 500 * seed) | {"spans": [["discrete", 900 * seed * "x"]]}
        judge(tmp_path / f"seed-{seed}", "base", [*rows, last])
    figures = compared(tmp_path)["arms"]["base"]["figures"]
    ends = {name: (one["low"], one["high"]) for name, one in figures.items()}
    assert ends["accuracy"] == ends["trigger_rate"] == (0, 1)
    lengths = ("discrete_tokens", "total_tokens", "latent_steps", "characters")
    assert all(ends[name][0] == 0 < ends[name][1] for name in lengths)


def test_every_arm_has_every_field(run):
    files.write_json(run / "arms.json", {"rl": {"title": "Ordinary RL", "trains": "all of it"}})
    mark(run / "seed-0", "rl", cost={"flops": 10, "seconds": None})
    mark(run / "seed-1", "rl", cost={"flops": 30, "seconds": 5})
    found = compared(run)
    assert list(found["arms"]) == ["rl", "base", "litereason"]  # as listed, then by name
    for arm in found["arms"].values():
        assert list(arm) == [*ABOUT, "figures", "saved", "recovered", "front", "cost", "answer"]
    rl = found["arms"]["rl"]
    assert [rl[key] for key in ABOUT] == [
        "Ordinary RL", "all of it", None, None, None, "done", None, [0, 1],
    ]  # fmt: skip
    assert rl["cost"] == {"flops": 20, "seconds": 5}
    assert found["arms"]["base"]["title"] == "Base" and found["arms"]["base"]["cost"] is None


def test_samples_of_an_item_are_one_value(tmp_path):
    judge(tmp_path, "base", [record("a"), record("a", False), record("b"), record("b")])
    found = compared(tmp_path)
    assert (found["samples"], found["items"], found["seeds"]) == (2, 2, [4])
    assert found["arms"]["base"]["figures"]["accuracy"]["by_seed"] == [0.75]


def test_an_ordinary_run_has_the_intervals_of_its_summaries(tmp_path):
    chance = random.Random(0)
    for arm in ("base", "rl"):
        records = [record(f"{n}", chance.random() < 0.6, chance.randrange(50)) for n in range(60)]
        judge(tmp_path, arm, records)
        figures = compared(tmp_path)["arms"][arm]["figures"]
        for metric in ("accuracy", "discrete_tokens"):
            for end, value in summarise(records)[metric].items():
                assert figures[metric][end] == pytest.approx(value, abs=1e-12)


def test_a_pair_of_an_ordinary_run_is_the_paired_test(tmp_path):
    chance = random.Random(0)
    a, b = ([record(f"{n}", chance.random() < 0.6) for n in range(60)] for _ in range(2))
    judge(tmp_path, "rl", a)
    judge(tmp_path, "base", b)
    left, right = (np.array([float(r["correct"]) for r in rows]) for rows in (a, b))
    found, known = pair_of(compared(tmp_path), "rl", "base"), stats.paired(left, right)
    assert {key: found[key] for key in known} == pytest.approx(known, abs=1e-12)


def test_the_order_of_an_arms_records_is_nothing(run):
    before = compared(run)
    judge(run / "seed-1", "rl", answers("11101110", 80)[::-1])
    assert compared(run) == before


def test_arms_are_paired_by_item_and_seed(tmp_path):
    for seed, rights in enumerate(("1100", "1110")):  # both arms answer alike: no pair differs
        for arm in ("base", "rl"):
            judge(tmp_path / f"seed-{seed}", arm, answers(rights))
    one = pair_of(compared(tmp_path), "rl", "base")
    assert [one[key] for key in ("difference", "low", "high", "p")] == [0, 0, 0, 1]


def test_front_by_hand(tmp_path):
    judge(tmp_path, "best", answers("1111", 60))
    judge(tmp_path, "short", answers("0000", 5))
    judge(tmp_path, "twin", answers("1111", 60))
    judge(tmp_path, "beaten", answers("0000", 6))
    judge(tmp_path, "ablated", answers("1111", 1), {"ablation": "noise"})
    judge(tmp_path, "unscored", answers("----", 1))
    front = {name: arm["front"] for name, arm in compared(tmp_path)["arms"].items()}
    assert front == {
        "best": 1, "short": 1, "twin": 1, "beaten": 0, "ablated": None, "unscored": None,
    }  # fmt: skip


def test_front_counts_latent_steps_and_is_a_share_of_draws(tmp_path):
    judge(tmp_path, "base", answers("1010", 20))
    judge(tmp_path, "litereason", answers("1000", 5, latent=15))  # as long; better in no draw
    front = {name: arm["front"] for name, arm in compared(tmp_path)["arms"].items()}
    # Item 2 alone decides: it is missing from a resample of 4 with probability (3 / 4)^4.
    assert front == {"base": 1, "litereason": pytest.approx(0.75**4, abs=0.02)}


def test_recovered_is_null_when_rl_may_have_gained_nothing(run):
    for home in (run / "seed-0", run / "seed-1"):
        judge(home, "rl", answers("10011000", 60))
    found = compared(run)
    assert pair_of(found, "rl", "base")["low"] <= 0
    assert {arm["recovered"] for arm in found["arms"].values()} == {None}


def test_ratios_resample_all_arms_together(tmp_path):
    # Tokens in proportion, item by item: the share saved is the same in every resample.
    for arm, factor in (("base", 4), ("rl", 2), ("litereason", 1)):
        judge(tmp_path, arm, [record(f"{n}", True, factor * (n + 1)) for n in range(12)])
    ours = compared(tmp_path)["arms"]["litereason"]["saved"]
    for other, share in (("base", 0.75), ("rl", 0.5)):
        assert ours[other]["total"] == pytest.approx({"mean": share, "low": share, "high": share})


def test_unscored_items_have_no_accuracy_but_tokens(tmp_path):
    judge(tmp_path, "rl", answers("11-0", 20))
    judge(tmp_path, "base", answers("1-10", 30))
    found = compared(tmp_path)
    assert found["arms"]["rl"]["figures"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert (pair_of(found, "rl", "base")["items"], found["items"]) == (2, 4)
    assert pair_of(found, "rl", "base", "total_tokens")["items"] == 4


def test_a_tasks_own_metric_has_the_items_that_it_applies_to(tmp_path):
    rows = answers("1100")
    rows[0]["metrics"], rows[1]["metrics"] = {"strict": 1.0}, {"strict": 0.0}
    judge(tmp_path, "rl", rows)
    judge(tmp_path, "base", answers("1100"))
    found = compared(tmp_path)["arms"]
    assert found["rl"]["figures"]["strict"]["mean"] == 0.5
    assert "strict" not in found["base"]["figures"]
    for row in rows[2:]:
        del row["metrics"]
    judge(tmp_path, "rl", rows)
    assert compared(tmp_path)["arms"]["rl"]["figures"]["strict"]["mean"] == 0.5


DIFFERENT = {
    "task": "gsm8k",
    "task_options": {"events": 7},
    "split": "train",
    "limit": 100,
    "max_new_tokens": 300,
    "max_latent_steps": 1,
    "temperature": 1.0,
    "top_p": 0.9,
    "top_k": 0,
}


def test_of_the_seeds_and_arms_asked_for_all_must_be_there(run):
    """The others may be of an earlier call; a page that is made anew keeps the seeds and arms it has."""
    shutil.rmtree(run / "seed-1" / "eval" / "rl")
    write_comparison(run, asked=["base", "litereason"])
    found = json.loads((run / "comparison.json").read_text())
    assert (list(found["arms"]), found["seeds"]) == (["base", "litereason"], [0, 1])
    with pytest.raises(DataError, match="arm 'rl' has no result under seed 1"):
        write_comparison(run, asked=["base", "rl"])
    for make in (lambda: write_comparison(run, [0]), lambda: rewrite_comparison(run)):
        make()
        found = json.loads((run / "comparison.json").read_text())
        assert (sorted(found["arms"]), found["seeds"]) == (["base", "litereason", "rl"], [0])


def test_a_copied_arm_is_refused(run):
    summary = run / "seed-1" / "eval" / "rl" / "summary.json"
    files.write_json(summary, files.read_json(summary) | {"arm": "base"})
    with pytest.raises(DataError, match="'rl' under seed 1 is of arm 'base' and seed 1"):
        write_comparison(run)


@pytest.mark.parametrize("text", ["{", "[1]", '{"rl": 3}', '{"rl": {"title": 3}}'])
def test_a_broken_list_of_arms_is_named_with_a_way_out(run, text):
    files.write_text(run / "arms.json", text)
    with pytest.raises(DataError, match=r"arms\.json is broken.* Delete it"):
        write_comparison(run)


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        ("arms/rl.json", "[1]", "arms/rl.json is broken"),
        ("arms/rl.json", '{"status": "done"}', "arms/rl.json is broken"),
        ("arms/rl.json", '{"status": "done", "stages": [], "cost": "x"}', "cost: 'x'"),
        ("eval/rl/config.yaml", "a: [", "config.yaml is broken: no YAML"),
        ("eval/rl/config.yaml", "settings: 3", "config.yaml is broken"),
        ("eval/rl/config.yaml", None, "config.yaml is missing. Delete the arm's eval"),
        ("eval/rl/records.jsonl", '{"item"', "line 1: not JSON .* Delete the arm's eval"),
    ],
)
def test_broken_files_are_named_with_a_way_out(run, place, text, told):
    path = run / "seed-1" / place
    path.unlink(missing_ok=True)
    if text is not None:
        files.write_text(path, text)
    with pytest.raises(DataError, match=told):
        write_comparison(run)


def test_a_copied_seed_is_refused(run):
    shutil.rmtree(run / "seed-1")
    shutil.copytree(run / "seed-0", run / "seed-1")
    with pytest.raises(DataError, match="'base' under seed 1 is of arm 'base' and seed 0"):
        write_comparison(run)


@pytest.mark.parametrize("key", DIFFERENT)
def test_arms_judged_otherwise_are_refused(run, key):
    judge(run / "seed-1", "rl", answers("11101110"), **{key: DIFFERENT[key]})
    with pytest.raises(DataError) as error:
        write_comparison(run)
    told = str(error.value)
    assert "arm 'rl' under seed 1 was judged otherwise" in told
    assert f"{key} {DIFFERENT[key]!r} and not {SETTINGS.get(key)!r}" in told
    assert not (run / "comparison.json").exists()


def test_other_items_are_refused(run):
    judge(run / "seed-1", "rl", [*answers("1110111"), record("other")])
    with pytest.raises(DataError, match=r"'rl' under seed 1 .* has 'i7', 'other'\)"):
        write_comparison(run)
    judge(run / "seed-1", "rl", answers("1110"))
    with pytest.raises(DataError, match=r"4 items and not 8 \(only one side has 'i4', .*\.\.\.\)"):
        write_comparison(run)


def test_other_numbers_of_samples_are_refused(run):
    judge(run / "seed-0", "rl", [*answers("11101110"), record("i3")])
    with pytest.raises(DataError, match=r"'rl' under seed 0 .* 2 samples of item 'i3' and not 1"):
        write_comparison(run)


def test_an_arm_that_lacks_a_seed_is_refused(run):
    (run / "seed-1" / "eval" / "rl" / "summary.json").unlink()  # an evaluation under way
    with pytest.raises(DataError, match="arm 'rl' has no result under seed 1"):
        write_comparison(run)
    mark(run / "seed-1", "rl", "done")
    with pytest.raises(DataError, match="arm 'rl' has no result under seed 1"):
        write_comparison(run)


def test_an_arm_that_is_listed_and_was_never_run_is_left_out(run):
    before = compared(run)
    files.write_json(run / "arms.json", {"coconut": {"title": "COCONUT"}})
    assert compared(run) == before
    mark(run / "seed-1", "coconut", "failed", "ModelError: too many steps")
    with pytest.raises(DataError, match="arm 'coconut' has no result under seed 0"):
        write_comparison(run)


def test_an_arm_that_failed_under_every_seed_leaves_the_others_whole(run):
    before = compared(run)
    for home in (run / "seed-0", run / "seed-1"):
        mark(home, "coconut", "failed", "ModelError: too many steps")
    judge(run / "seed-0", "coconut", answers("11"), top_k=3)  # left behind; not read
    after = compared(run)
    failed = after["arms"].pop("coconut")
    assert after == before
    assert failed | {"title": ""} == dict.fromkeys([*failed]) | {
        "title": "",
        "status": "failed",
        "reason": "ModelError: too many steps",
        "seeds": [],
    }


def test_an_arm_that_failed_under_one_seed_is_compared_under_the_other(run):
    before = compared(run)
    (run / "seed-0" / "eval" / "litereason" / "summary.json").unlink()
    mark(run / "seed-0", "litereason", "failed", "out of memory")
    found = compared(run)
    ours = found["arms"]["litereason"]
    assert (ours["status"], ours["reason"]) == ("partial", "seed 0: out of memory")
    assert (ours["seeds"], ours["front"]) == ([1], None)
    assert ours["figures"]["discrete_tokens"]["by_seed"] == [20]
    one = pair_of(found, "litereason", "rl", "discrete_tokens")
    assert (one["seeds"], one["difference"], one["by_seed"]) == ([1], 20 - 80, [-60])
    assert found["arms"]["rl"] | {"front": 0} == before["arms"]["rl"] | {"front": 0}


def test_arms_that_never_met_are_no_pair(run):
    mark(run / "seed-0", "litereason", "failed", "a")
    mark(run / "seed-1", "rl", "failed", "b")
    found = compared(run)
    pairs = {(one["a"], one["b"]) for one in found["pairs"]}
    assert pairs == {("rl", "base"), ("litereason", "base")}
    assert found["arms"]["litereason"]["saved"]["rl"] is None
    assert found["arms"]["litereason"]["recovered"] is None


@pytest.mark.parametrize("arms", [(), ("base",), ("rl",), ("litereason",), ("base", "litereason")])
def test_empty_and_one_sided_runs_have_a_comparison(tmp_path, arms):
    for arm in arms:
        judge(tmp_path, arm, answers("10", 7))
    found = compared(tmp_path)
    assert sorted(found["arms"]) == sorted(arms)
    assert found["items"] == (2 if arms else 0)
    for name, arm in found["arms"].items():
        assert arm["figures"]["accuracy"]["mean"] == 0.5 and arm["front"] == 1, name
        assert (arm["saved"]["base"] is None) == ("base" not in arms)
        assert arm["recovered"] is None
    assert len(found["pairs"]) == (3 if len(arms) == 2 else 0)


def test_a_comparison_in_which_everything_failed(tmp_path):
    mark(tmp_path / "seed-3", "rl", "failed")
    found = compared(tmp_path)
    assert (found["seeds"], found["items"], found["pairs"]) == ([3], 0, [])
    assert found["arms"]["rl"]["reason"] == "no reason given"


def test_an_ordinary_run_compares_what_its_arms_share(tmp_path):
    judge(tmp_path, "rl", [record("c"), record("b"), record("a"), record("x")], top_k=3)
    judge(tmp_path, "base", [record("a", False), record("a"), record("b"), record("c", False)])
    found = compared(tmp_path)
    one = pair_of(found, "rl", "base")
    assert (one["difference"], one["items"]) == (0.5, 3)  # .5, 0, 1
    assert (found["items"], found["samples"]) == (4, None)
    assert found["arms"]["rl"]["figures"]["accuracy"]["mean"] == 1


def test_an_ordinary_run_of_arms_that_share_no_item(tmp_path):
    judge(tmp_path, "rl", [record("a")])
    judge(tmp_path, "base", [record("b")], {"task": "other"})
    found = compared(tmp_path)
    assert (found["pairs"], found["task"], found["split"]) == ([], None, "test")
    assert {arm["front"] for arm in found["arms"].values()} == {None}


def test_an_ordinary_run_takes_finished_arms_only(tmp_path):
    judge(tmp_path, "rl", answers("1"))
    judge(tmp_path, "base", answers("1"))
    (tmp_path / "eval" / "base" / "summary.json").unlink()
    assert list(compared(tmp_path)["arms"]) == ["rl"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"correct": 2}, "field 'correct' is 2"),
        ({"thoughts": None}, "field 'thoughts' is None"),
        ({"latent_steps": -1}, "field 'latent_steps' is -1"),
    ],
)
def test_broken_records_are_named(run, change, told):
    judge(run / "seed-1", "rl", [*answers("1110111"), record("i7") | change])
    with pytest.raises(DataError, match=rf"rl/records\.jsonl, line 8: {told}"):
        write_comparison(run)


def test_pairs_and_their_families():
    arms = dict.fromkeys(("base", "rl", "direct-rl", "litereason", "litereason-lp", "pause"))
    arms |= {
        "rl-lp": None,
        "coconut": None,
        "litereason-noise": "noise",
        "litereason-lp-noise": "noise",
    }
    found = list(pairs(arms))
    assert len({pair[1:] for pair in found}) == len(found)
    families = {
        question: {(a, b) for q, a, b, metric in found if (q, metric) == (question, "accuracy")}
        for question in ("premise", "base", "ours", "rl", "latents", "rivals", "words", "reasoning")
    }
    whole = {"direct-rl", "rl-lp", "litereason", "litereason-lp", "pause", "coconut"}
    assert families == {
        "premise": {("rl", "base")},
        "base": {(arm, "base") for arm in whole},
        "ours": {("litereason", "rl")},
        "rl": {(arm, "rl") for arm in whole - {"litereason"}},
        "latents": {
            ("litereason", "pause"),
            ("litereason", "litereason-noise"),
            ("litereason-lp", "litereason-lp-noise"),
        },
        "rivals": {("litereason", "coconut")},
        "words": {("litereason", "rl-lp"), ("litereason-lp", "rl-lp")},
        "reasoning": {("rl", "direct-rl"), ("litereason", "direct-rl")},
    }
    names = ("rl-lp", "distil", "brief", "rl-longer", "brief-rl", "brief-words", "brief-pause")
    arms = dict.fromkeys((*names, "soft-thinking-one"))
    found = list(pairs(arms | {"brief-other-row": "other_row"}))
    asked = {(question, a, b) for question, a, b, metric in found if metric == "accuracy"}
    assert asked == {
        ("latents", "brief", "brief-pause"),
        ("latents", "brief", "brief-other-row"),
        ("words", "distil", "soft-thinking-one"),
        ("words", "brief", "soft-thinking-one"),
        ("words", "distil", "rl-lp"),
        ("words", "distil", "rl-longer"),
        ("words", "distil", "brief-rl"),
        ("words", "brief", "rl-lp"),
        ("words", "brief", "rl-longer"),
        ("words", "brief", "brief-rl"),
        ("words", "brief", "brief-words"),
    }


def test_p_values_are_corrected_within_a_family(tmp_path):
    chance = random.Random(1)
    names = ("base", "rl", "direct", "sft", "litereason")
    for arm, skill in zip(names, (0.4, 0.9, 0.5, 0.6, 0.7), strict=True):
        rights = "".join(str(int(chance.random() < skill)) for _ in range(50))
        judge(tmp_path, arm, answers(rights))
    found = compared(tmp_path)["pairs"]
    others = {"direct", "sft"}
    questions = [("base", {*others, "litereason"}), ("rl", others), ("rl", {"litereason"})]
    for metric, (other, arms) in itertools.product(("accuracy", "total_tokens"), questions):
        family = [one for one in found if (one["metric"], one["b"]) == (metric, other)]
        family = [one for one in family if one["a"] in arms]
        assert len(family) == len(arms)
        corrected = stats.holm([one["p"] for one in family])
        assert [one["p_corrected"] for one in family] == pytest.approx(list(corrected))
    assert any(one["p_corrected"] > one["p"] for one in found)
    premise = pair_of({"pairs": found}, "rl", "base")
    assert premise["p_corrected"] == premise["p"]


def test_thoughts_offered_and_never_taken_are_an_ablation(run):
    for home in (run / "seed-0", run / "seed-1"):
        judge(home, "litereason-skip", answers("1" * 8, 1), {"mode": "latent"}, max_thoughts=0)
        judge(home, "plain", answers("1" * 8, 1), max_thoughts=0)
    found = compared(run)
    ablations = {name: arm["ablation"] for name, arm in found["arms"].items()}
    assert {name for name, one in ablations.items() if one == "skip"} == {"litereason-skip"}
    assert pair_of(found, "litereason", "litereason-skip")["difference"] == -0.5
    assert found["arms"]["litereason-skip"]["front"] is None


def test_a_report_writes_nothing_where_there_is_nothing_to_report(tmp_path):
    for run in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match="holds no evaluated arm; expected the --run_dir of"):
            rewrite_comparison(run)
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_seeds_that_are_gone_is_refused(run):
    before = write_comparison(run).read_text()
    shutil.move(run / "seed-1", run / "elsewhere")
    with pytest.raises(
        DataError, match=r"is of seeds \[0, 1\], and .*seed-1 is missing. Put it back"
    ):
        rewrite_comparison(run)
    assert (run / "comparison.json").read_text() == before
