"""Learning curves: which arms share a panel, what is shown first, and the axes."""

import dataclasses
import re

from litereason.report import curves
from litereason.report.read import read_run
from litereason.report.run import ARM_ORDER
from litereason.report.style import styles
from report_runs import make_run


def test_losses_have_a_panel_an_arm_and_lines_of_rl_share_one(tmp_path):
    run = read_run(make_run(tmp_path, items=3))
    rl, sft = curves.stages(run)
    assert (rl.name, rl.count, rl.shown.arms) == ("rl", 3, ("direct-rl", "rl", "litereason"))
    assert len(rl.shown.panels) == len(curves.RL_PANELS) and rl.more is None
    assert (sft.name, sft.shown.arms, len(sft.shown.panels), sft.more) == ("sft", (), 1, None)
    assert "Loss over training steps. LiteReason from 2.24 to 0.58." in sft.shown.panels[0]


def test_of_many_trained_arms_those_that_say_most_come_first(tmp_path):
    run = read_run(make_run(tmp_path, items=3))
    fall = [[{"step": step, "loss": 30 / (1 + step)} for step in range(40)]]
    rows = run.curves["rl"]["rl"]
    names = ("rl", "brief", "a", "b", "c", "d", "e")
    run.curves.update({"rl": dict.fromkeys(names, rows), "sft": dict.fromkeys(names[1:], fall)})
    rl, sft = curves.stages(run)
    assert rl.shown.arms == ("rl", "brief") and rl.more and rl.more.arms == names
    assert len(sft.shown.panels) == 6 and sft.more is None  # few enough
    run.curves["sft"]["f"] = fall
    sft = curves.stages(run)[1]
    assert sft.more and (len(sft.shown.panels), len(sft.more.panels)) == (1, 6)
    # a loss that falls from 30 to 0.8 has a logarithmic axis with plain numbers; one to 0.1, too
    assert re.findall(r"<text[^>]*>(\d+)</text>", sft.shown.panels[0])[-3:] == ["3", "10", "30"]


def test_grey_is_the_bases_alone(tmp_path):
    run = read_run(make_run(tmp_path, items=3))
    many = [dataclasses.replace(run.arms[0], name=name) for name in (*ARM_ORDER, *"abcdefgh")]
    given = styles(dataclasses.replace(run, arms=tuple(many)))
    assert [name for name, one in given.items() if one.index == 0] == ["base"]
    assert len({(one.index, one.marker) for one in given.values()}) == len(given)
