"""Names in the trade-off plot: clear of markers and of each other, inside the frame."""

import dataclasses
import itertools
import json
import random

import pytest

from litereason.report import trade_off
from litereason.report.labels import Name, Place, overlap, place
from litereason.report.read import read_run
from report_runs import around, make_run

FRAME = (0.0, 0.0, 800.0, 400.0)


def marker(name: Name) -> tuple[float, float, float, float]:
    return name.x - 8, name.y - 8, name.x + 8, name.y + 8


def test_a_name_stands_beside_its_marker():
    name = Name(50, 15, 100, 200, 100)
    (found,) = place([name], [marker(name)], FRAME)
    assert found == Place("left", 111, 200)
    assert found.box(name) == (111, 192.5, 161, 207.5)


def test_a_name_at_the_right_edge_stands_on_the_left_of_its_line():
    name = Name(50, 15, 780, 200, 700)
    (found,) = place([name], [marker(name)], FRAME)
    assert found == Place("right", 689, 200)


def test_crowded_names_hit_next_to_nothing():
    """Twelve markers in three heaps: no name covers another, or more than the edge of a marker."""
    chance = random.Random(0)
    names = []
    for x, y in itertools.product((60, 300, 700), (200,)):
        names += [
            Name(90, 15, x + chance.randrange(20), y + chance.randrange(20), x - 20)
            for _ in range(4)
        ]
    found = place(names, [marker(name) for name in names], FRAME)
    boxes = [one.box(name) for one, name in zip(found, names, strict=True)]
    assert len(boxes) == 12
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert max(overlap(a, marker(b)) for a in boxes for b in names) < 0.1 * 16 * 16
    assert all(box[0] >= 0 and box[2] <= 800 and box[1] >= 0 and box[3] <= 400 for box in boxes)


def test_controls_stand_back_where_arms_are_many(tmp_path, monkeypatch):
    run = read_run(make_run(tmp_path, items=3))
    assert len(trade_off.labelled(run.arms)) == 9
    monkeypatch.setattr(trade_off, "MOST_NAMES", 8)
    names = [arm.name for arm in trade_off.labelled(run.arms)]
    assert names == ["base", "direct", "direct-rl", "rl", "litereason", "pause"]
    assert [arm.name for arm in trade_off.key_arms(run)] == [n for n in names if n != "direct"]
    words = [
        dataclasses.replace(a, name="brief-words") if a.name == "direct" else a for a in run.arms
    ]
    words = trade_off.key_arms(dataclasses.replace(run, arms=tuple(words)))
    assert "brief-words" in [arm.name for arm in words], (
        "what words alone save says what latents do"
    )
    mine = [dataclasses.replace(a, name="mine") if a.name == "direct-rl" else a for a in run.arms]
    mine = trade_off.key_arms(dataclasses.replace(run, arms=tuple(mine)))
    assert "mine" in [arm.name for arm in mine], "it is on the front"
    drawing = trade_off.plot(run, whole=True)
    assert ">LiteReason<" in drawing and ">Zeroed latents<" not in drawing
    assert drawing.count("stroke-opacity: 0.25") == 8  # two lines of each of four controls


def test_an_interval_far_below_all_means_runs_out(tmp_path):
    run = make_run(tmp_path, items=3)
    low, high = trade_off._bounds(read_run(run), 100)
    assert 44 < low < 47 and high > 99  # direct: 50 +- 3; rl: 96 +- 3
    path = run / "comparison.json"
    told = json.loads(path.read_text())
    told["arms"]["direct"]["figures"]["accuracy"]["low"] = 0.07
    path.write_text(json.dumps(told))
    assert 30 < trade_off._bounds(read_run(run), 100)[0] < 34  # 35 % of 96 - 50 below 50


@pytest.mark.filterwarnings("error:constrained_layout")
def test_one_arm_far_from_the_commonest_answer_has_a_plot(tmp_path):
    run = make_run(tmp_path, arms=("rl",))
    path = run / "eval/rl/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": around(0.16, 0.1)}))
    (run / "comparison.json").unlink()
    read = read_run(run)
    share = read.majority
    low, high = trade_off._bounds(read, 100)
    assert share and low < 6 and high > 100 * share[1]
    trade_off.plot(read)


def test_text_is_in_the_font_of_the_page(tmp_path):
    drawing = trade_off.plot(read_run(make_run(tmp_path, items=3)))
    assert "font-size: 13px" in drawing and "font-family" not in drawing
