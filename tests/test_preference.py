"""Blinded comparisons, judgements and Bradley-Terry strengths: known answers and bad input."""

import collections
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import bradley_terry, files
from litereason.bradley_terry import Judgement, fit, strengths
from litereason.cli import main
from litereason.errors import DataError
from litereason.preference import make_pairs


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Where intervals are not the point."""
    monkeypatch.setattr(bradley_terry, "RESAMPLES", 20)


def judged(results: str, a: str = "x", b: str = "y") -> list[Judgement]:
    """One judgement an item: `1` where `a`, which is text a, won, `0` where it lost, `=` for a tie."""
    scores = {"1": 1.0, "0": 0.0, "=": 0.5}
    return [Judgement(f"{a}{b}{k}", f"{k}", a, b, scores[one]) for k, one in enumerate(results)]


def logit(wins: float, losses: float) -> float:
    """With the imaginary tie."""
    return math.log((wins + 0.5) / (losses + 0.5))


def by_arm(found: dict) -> dict[str, float]:
    return {row["arm"]: row["strength"]["mean"] for row in found["arms"]}


def test_two_arms_differ_by_the_logit_of_the_win_rate():
    found = strengths(judged("1110" * 100))
    (pair,) = found["pairs"]
    assert pair["difference"]["mean"] == pytest.approx(logit(300, 100), abs=1e-6)
    assert pair["difference"]["mean"] == pytest.approx(math.log(0.75 / 0.25), abs=0.01)
    assert by_arm(found) == pytest.approx({"x": logit(300, 100) / 2, "y": -logit(300, 100) / 2})
    assert [row["win_rate"]["mean"] for row in found["arms"]] == [0.75, 0.25]


def test_ties_count_half():
    found = strengths(judged("1=0=="))
    assert by_arm(found) == pytest.approx({"x": 0, "y": 0}, abs=1e-6)
    assert found["arms"][0]["ties"] == 3 and found["arms"][0]["win_rate"]["mean"] == 0.5
    half = strengths(judged("1==="))["pairs"][0]["difference"]["mean"]
    assert half == pytest.approx(logit(2.5, 1.5), abs=1e-6)


def test_an_arm_that_wins_everything_is_finite():
    (pair,) = strengths(judged("1" * 10))["pairs"]
    assert pair["difference"]["mean"] == pytest.approx(math.log(10.5 / 0.5), abs=1e-6)
    assert pair["win_rate"] == {"mean": 1.0, "low": None, "high": None}


NONE = {"low": None, "high": None}


@pytest.mark.parametrize("results", ["1", "=", "1" * 10, "=" * 10])
def test_no_interval_can_be_told_where_all_items_agree(results):
    found = strengths(judged(results))
    figures = [arm[name] for arm in found["arms"] for name in ("strength", "win_rate")]
    figures += [found["pairs"][0][name] for name in ("difference", "win_rate")]
    assert all(one == {**NONE, "mean": one["mean"]} for one in [*figures, found["a_wins"]])


def test_what_only_imaginary_ties_bound_has_no_interval():
    """x won everything against y; how many judgements an item has makes no interval. y and z do differ."""
    more = [Judgement("twice", "0", "x", "y", 1.0)]
    (pair,) = strengths(judged("1" * 6) + more)["pairs"]
    assert pair["difference"] == {"mean": pytest.approx(logit(7, 0)), **NONE}
    found = strengths(judged("1" * 6) + judged("110100", "y", "z"))
    differences = {(p["a"], p["b"]): p["difference"]["low"] for p in found["pairs"]}
    assert differences["x", "y"] is None and differences["y", "z"] is not None
    assert all(arm["strength"]["low"] is None for arm in found["arms"])
    back = [Judgement("back", "0", "z", "x", 1.0)]  # a chain of wins from y to x
    found = strengths(judged("1" * 6) + judged("110100", "y", "z") + back)
    assert all(arm["strength"]["low"] is not None for arm in found["arms"])


def test_strengths_add_up_along_a_chain():
    found = strengths(judged("1110") + judged("110", "y", "z"))
    arms = by_arm(found)
    assert arms["x"] - arms["y"] == pytest.approx(logit(3, 1), abs=1e-6)
    assert arms["y"] - arms["z"] == pytest.approx(logit(2, 1), abs=1e-6)
    assert sum(arms.values()) == pytest.approx(0, abs=1e-9)
    assert [row["arm"] for row in found["arms"]] == ["x", "y", "z"]


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=3, max_size=3))
def test_wins_are_what_the_strengths_expect(counts):
    """The likelihood equations of Bradley and Terry: observed wins = expected wins, arm by arm."""
    wins, places = np.array(counts, float), np.array([[0, 1], [0, 2], [1, 2]])
    found = fit(wins, places, 3)
    wins += 0.5  # the imaginary tie
    share = 1 / (1 + np.exp(found[places[:, 1]] - found[places[:, 0]]))
    expected = np.stack([share, 1 - share], 1) * wins.sum(1, keepdims=True)
    for arm in range(3):
        assert wins[places == arm].sum() == pytest.approx(expected[places == arm].sum(), abs=1e-4)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_whose_text_came_first_changes_no_strength_but_the_bias():
    turned = [Judgement(o.id, o.item, o.b, o.a, 1 - o.score) for o in judged("1110")]
    straight = strengths(judged("1110"))
    assert by_arm(strengths(turned)) == pytest.approx(by_arm(straight))
    assert straight["a_wins"]["mean"] == 0.75 and strengths(turned)["a_wins"]["mean"] == 0.25


def test_intervals_are_over_items_not_judgements(monkeypatch):
    monkeypatch.setattr(bradley_terry, "RESAMPLES", 300)
    rng = np.random.default_rng(0)
    once = [Judgement(f"{k}", f"{k}", "x", "y", float(rng.random() < 0.6)) for k in range(60)]
    tenfold = [Judgement(f"{o.id} {k}", o.item, "x", "y", o.score) for o in once for k in range(10)]
    rate, same = (strengths(ones)["arms"][0]["win_rate"] for ones in (once, tenfold))
    assert same == pytest.approx(rate)
    mean = rate["mean"]
    width = 2 * 1.96 * math.sqrt(mean * (1 - mean) / 60)
    assert rate["high"] - rate["low"] == pytest.approx(width, rel=0.25)
    narrow = strengths(tenfold)["pairs"][0]["difference"]
    assert narrow["low"] < narrow["mean"] < narrow["high"]
    assert narrow["high"] - narrow["low"] == pytest.approx(width / (mean * (1 - mean)), rel=0.3)


def test_arms_that_nothing_links_are_named():
    with pytest.raises(DataError, match=r"links the arms \['v', 'w'\] to \['x', 'y'\]"):
        strengths(judged("10") + judged("10", "w", "v"))


def chapters(arm: str, items: range) -> dict[tuple[str, int], str]:
    return {(f"{k}", 0): f"chapter {k} by {arm}" for k in items}


def test_comparisons_are_blind_balanced_and_of_one_item():
    arms = {"one": chapters("one", range(20)), "two": chapters("two", range(10, 40))}
    arms["three"] = chapters("three", range(40))
    texts, key = make_pairs(arms, seed=3)
    assert len(texts) == 10 + 20 + 30 and len({row["id"] for row in key}) == 60
    for shown, row in zip(texts, key, strict=True):
        assert shown == {
            "id": row["id"],
            "item": row["item"],
            "text_a": f"chapter {row['item']} by {row['a']}",
            "text_b": f"chapter {row['item']} by {row['b']}",
        }
        assert row["a"] != row["b"]
    orders = collections.Counter((row["a"], row["b"]) for row in key)
    assert all(orders[a, b] == orders[b, a] for a, b in orders)
    groups = [sorted((row["a"], row["b"])) for row in key]
    assert groups != sorted(groups)
    assert make_pairs(arms, seed=3)[1] == key != make_pairs(arms, seed=4)[1]


@pytest.fixture
def run(tmp_path):
    """Runs `litereason prefer` over two arms of four chapters; answers (status, files by name)."""
    for arm in ("long", "short"):
        rows = [
            {"item": item, "sample": k, "text": text}
            for (item, k), text in chapters(arm, range(4)).items()
        ]
        files.write_jsonl(tmp_path / "chapters" / arm / "chapters.jsonl", rows)

    def prefer(*words: object) -> int:
        return main(["prefer", "--run_dir", str(tmp_path), *map(str, words)])

    return prefer


def test_files_in_figures_out(run, tmp_path, capsys):
    assert run() == 0
    shown = files.read_jsonl(tmp_path / "preference" / "comparisons.jsonl")
    assert [sorted(row) for row in shown] == [["id", "item", "text_a", "text_b"]] * 4
    said = [
        {"id": row["id"], "winner": "a" if "long" in row["text_a"] else "b"} for row in shown[:3]
    ]
    random.Random(0).shuffle(said)
    told = files.write_jsonl(tmp_path / "said.jsonl", said)
    assert run("--judgements", told) == 0
    found = files.read_json(tmp_path / "preference" / "strengths.json")
    assert [row["arm"] for row in found["arms"]] == ["long", "short"]
    assert found["pairs"][0]["difference"]["mean"] == pytest.approx(math.log(3.5 / 0.5), abs=1e-6)
    assert (found["judgements"], found["items"], found["unjudged"]) == (3, 3, 1)
    out = capsys.readouterr()
    assert "long" in out.out and "1 comparisons not judged" in " ".join(out.err.split())


def test_judged_comparisons_are_never_overwritten(run, tmp_path, capsys):
    assert run() == run() == 0
    assert "already complete" in capsys.readouterr().err
    before = (tmp_path / "preference" / "comparisons.jsonl").read_bytes()
    assert run("--seed", 1) == 2
    assert "may have been judged" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "preference" / "comparisons.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "?", "winner": "a"}], "line 1: no comparison has the id '?'"),
        ([{"id": 7, "winner": "a"}], "no comparison has the id 7"),
        ([{"id": 0, "winner": "A"}], "the winner is 'A'; expected one of ['a', 'tie', 'b']"),
        ([{"id": 0, "winner": 1}], "the winner is 1; expected"),
        ([{"id": 0}], "the winner is None; expected"),
        ([{"id": 0, "winner": "a", "judge": 3}], "the judge is 3; expected a name"),
        ([{"id": 0, "winner": "a"}, {"id": 0, "winner": "b"}], "line 2: a second judgement of"),
        (
            [{"id": 0, "winner": "a", "judge": "J"}, {"id": 0, "winner": "a", "judge": "J"}],
            "line 2: 'J' judged comparison",
        ),
    ],
)
def test_judgements_that_are_none(run, tmp_path, capsys, lines, message):
    assert run() == 0
    name = files.read_jsonl(tmp_path / "preference" / "key.jsonl")[0]["id"]
    rows = [row | {"id": name} if row["id"] == 0 else row for row in lines]
    assert run("--judgements", files.write_jsonl(tmp_path / "said.jsonl", rows)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "preference" / "strengths.json").exists()


def test_several_judges_of_one_comparison(run, tmp_path, capsys):
    assert run() == 0
    name = files.read_jsonl(tmp_path / "preference" / "key.jsonl")[0]["id"]
    rows = [{"id": name, "winner": "tie", "judge": judge} for judge in ("J", "K")]
    assert run("--judgements", files.write_jsonl(tmp_path / "said.jsonl", rows)) == 0
    found = files.read_json(tmp_path / "preference" / "strengths.json")
    assert (found["judgements"], found["unjudged"]) == (2, 3)
    assert found["a_wins"] == {"mean": 0.5, "low": None, "high": None}
    told = capsys.readouterr().out
    assert "0.50 [–]" in told and "there is one only" in told


def test_arms_that_cannot_be_compared(run, tmp_path, capsys):
    def refused(*words: object) -> str:
        assert run(*words) == 2
        return " ".join(capsys.readouterr().err.split())

    long = tmp_path / "chapters" / "long" / "chapters.jsonl"
    assert "expected at least two" in refused("--arms", "long")
    assert "each with its own name" in refused("--arms", f"[long, {long}]")
    assert "no such file" in refused("--arms", "[long, none]")
    assert "leave --arms out" in refused("--arms", "[long, short]", "--judgements", long)
    assert "without --judgements writes it" in refused("--judgements", long)
    other = tmp_path / "other" / "chapters.jsonl"
    files.write_jsonl(other, [{"item": "9", "text": "alone"}])
    assert "arms ['other'] have no chapter" in refused("--arms", f"[long, short, {other}]")
    files.write_jsonl(other, [{"item": "0", "text": "a"}, {"item": "0", "text": "b"}])
    assert "line 2: a second sample 0" in refused("--arms", f"[long, {other}]")
    files.write_jsonl(other, [{"item": "0", "text": 3}])
    assert "line 1: item '0', sample 0, text '3'; expected text" in refused(
        "--arms", f"[long, {other}]"
    )
