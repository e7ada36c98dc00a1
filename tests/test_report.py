"""The report's sentences against hand-computed figures, over one seed and over several."""

import dataclasses
import json
import shutil

import pytest

from litereason.report import numbers
from litereason.report.findings import findings
from litereason.report.glance import grid
from litereason.report.glance import summary as sentences
from litereason.report.latents import answers
from litereason.report.read import read_run
from report_runs import PAIRS, around, compare, edit, make_comparison, make_run


def plain(text: str) -> str:
    """With ordinary spaces and minus signs."""
    return text.translate(str.maketrans({"\u00a0": " ", "\u2212": "-"}))


def told(run) -> dict[str, tuple[str, str]]:
    """claim -> (verdict, text)."""
    return {plain(one.claim): (one.verdict, plain(one.whole)) for one in findings(read_run(run))}


def lead(run) -> str:
    read = read_run(run)
    return sentences(read, findings(read))


def test_sentences_tell_the_figures(tmp_path):
    claims = told(make_run(tmp_path))
    assert claims["RL without latent steps beats the base model by at least 20 points"] == (
        "Held",
        "RL reached 96.0 % [93.0, 99.0] and Base 55.0 % [52.0, 58.0]: RL is higher by 41.0 points "
        "[35.2, 45.1], corrected p < 0.001, n = 40 items.",
    )
    assert claims["LiteReason stays within 5 points of RL without latent steps"] == (
        "Held",
        "LiteReason reached 93.0 % [90.0, 96.0] and RL 96.0 % [93.0, 99.0]: LiteReason is lower by "
        "3.0 points [1.2, 4.5], corrected p = 0.008, n = 40 items.",
    )
    assert claims["The latent steps do more than a trained pause"] == (
        "Not shown",
        "No difference was shown. LiteReason reached 93.0 % [90.0, 96.0] and Trained pause 90.0 % "
        "[87.0, 93.0]; LiteReason minus Trained pause: +3.0 points [-0.4, 6.1], corrected "
        "p = 0.162, n = 40 items.",
    )
    verdict, text = claims["The latent steps carry what belongs to their own story"]
    assert verdict == "Held" and "higher by 9.0 points [6.2, 12.1], corrected p < 0.001" in text
    assert "Left open by this run" not in claims


def test_a_p_near_the_bound_has_the_digits_that_tell_its_side():
    told = [plain(numbers.probability(p)) for p in (0.0004, 0.21, 0.049995, 0.0502)]
    assert told == ["p < 0.001", "p = 0.210", "p = 0.04999", "p = 0.05020"]


def test_token_savings_state_their_denominator(tmp_path):
    claims = told(make_run(tmp_path))
    verdict, text = claims["LiteReason needs fewer tokens than RL without latent steps"]
    assert verdict == "Held"
    assert "30.0 [29.0, 31.0] discrete tokens a sample, RL 60.0 [59.0, 61.0]: 50 % fewer" in text
    assert "36.0 [35.0, 37.0] against 60.0 [59.0, 61.0], 40 % fewer than RL" in text
    assert "paired difference -24.0 [-26.0, -22.0], corrected p < 0.001, n = 40 items" in text
    assert "Against Base's 20.0 [19.0, 21.0] discrete tokens it is 50 % more." in text


def test_savings_that_latent_steps_eat_up_are_partial(tmp_path):
    run = make_run(tmp_path)
    (run / "comparison.json").unlink()
    edit(run / "eval/litereason/summary.json", total_tokens=around(60.5, 1.0))
    claims = told(run)
    verdict, text = claims["LiteReason needs fewer tokens than RL without latent steps"]
    assert verdict == "Partly" and "1 % more than RL (the intervals overlap" in text
    verdict, text = claims["LiteReason stays within 5 points of RL without latent steps"]
    assert verdict == "Not tested" and "no paired comparison" in text


def test_reasoning_that_became_longer_is_told(tmp_path):
    run = make_run(tmp_path)
    (run / "comparison.json").unlink()
    claim = "LiteReason needs fewer tokens than RL without latent steps"
    for discrete, verdict in ((30.0, "Partly"), (60.0, "Did not hold"), (80.0, "Did not hold")):
        figures = {"total_tokens": around(80.5, 1.0), "discrete_tokens": around(discrete, 1.0)}
        edit(run / "eval/litereason/summary.json", **figures)
        found, text = told(run)[claim]
        assert found == verdict and text.endswith("Latent steps counted, it is longer."), discrete


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.21, 0.45, "Held"),
        (0.10, 0.45, "Partly"),
        (0.01, 0.19, "Did not hold"),
        (0.01, 0.25, "Not shown"),
    ],
)
def test_the_goal_of_rl_is_judged_by_its_interval(tmp_path, low, high, verdict):
    run = make_run(tmp_path)
    middle = (low + high) / 2
    # stored the other way round
    compare(run, {("base", "rl", "accuracy"): (-middle, -high, -low, 0.01)})
    claim = "RL without latent steps beats the base model by at least 20 points"
    assert told(run)[claim][0] == verdict
    compare(run, {("rl", "base", "accuracy"): (middle, low, high, 0.2)})
    assert told(run)[claim][0] == "Not shown", "no verdict on a difference that was not shown"


def test_direct_answers_that_do_as_well_are_said(tmp_path):
    run = make_run(tmp_path)
    compare(run, {("litereason", "direct-rl", "accuracy"): (0.01, -0.02, 0.04, 0.6)})
    verdict, text = told(run)["Answering at once (Direct answer, RL) does not do as well"]
    assert verdict == "Not shown" and text.endswith("That this task needs reasoning is not shown.")


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [([1.0, 0.9], "Held"), ([0.9, 0.4], "Partly"), ([0.9, 0.01], "Did not hold")],
)
def test_a_policy_that_drops_its_thoughts_is_said(tmp_path, rates, verdict):
    run = make_run(tmp_path)
    rows = [{"step": 10 * i, "trigger_rate": rate} for i, rate in enumerate(rates)]
    rows.insert(1, {"step": 5, "loss": float("nan")})
    path = run / "rl/litereason/metrics.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found, text = told(run)["LiteReason still uses thoughts at the end of RL"]
    assert found == verdict
    assert f"from {100 * rates[0]:.1f} % (step 0) to {100 * rates[1]:.1f} % (step 10)" in text


def test_thoughts_that_are_gone_at_evaluation_are_gone(tmp_path):
    run = make_run(tmp_path)
    none = {"mean": 0.0, "low": 0.0, "high": 0.0}
    edit(run / "eval/litereason/summary.json", trigger_rate=none)
    compare(run)
    assert told(run)["LiteReason still uses thoughts at the end of RL"][0] == "Did not hold"


def test_an_arm_that_says_the_same_to_every_item_is_named(tmp_path):
    run = make_run(tmp_path)
    claim = "Some arms are right on one answer alone, whatever the item"
    assert claim not in told(run)
    path = run / "eval/rl/records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["label"] for row in rows} == {"Yes", "No"}
    rows = [row | {"correct": row["label"] == "No"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert told(run)[claim] == (
        "Note",
        "RL: “No”. What such arms keep or save is no reasoning.",
    )
    rows[0]["correct"] = not rows[0]["correct"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert claim not in told(run)


def test_a_note_on_the_run_is_told(tmp_path):
    run = make_run(tmp_path)
    assert "About this run" not in told(run)
    (run / "config.yaml").write_text("settings:\n  note: Read no result off it.\n")
    assert told(run)["About this run"] == ("Note", "Read no result off it.")


def test_commits_that_differ_are_told(tmp_path):
    run = make_run(tmp_path)
    claim = "The stages were run by several commits of the code"
    for place, commit in (("eval/rl", "a" * 40), ("rl/rl", "a" * 40), ("eval/base", None)):
        (run / place).mkdir(exist_ok=True, parents=True)
        (run / place / "config.yaml").write_text(f"settings: {{}}\ncommit: {commit or 'null'}\n")
    assert claim not in told(run)
    (run / "eval/base/config.yaml").write_text(f"commit: {'b' * 40}\n")
    verdict, text = told(run)[claim]
    assert verdict == "Note" and text.startswith("Stages by commit: aaaaaaa: 2; bbbbbbb: 1.")


def test_a_run_with_one_unknown_arm_and_only_a_reward(tmp_path):
    run = make_run(tmp_path, arms=("rl",))
    (run / "eval/rl").rename(run / "eval/mine")
    edit(
        run / "eval/mine/summary.json",
        arm="mine",
        title="Mine",
        accuracy=None,
        reward={"mean": 0.478, "low": 0.4, "high": 0.55},
    )
    shutil.rmtree(run / "rl")
    shutil.rmtree(run / "sft")
    for name in ("config.yaml", "comparison.json"):
        (run / name).unlink()
    assert lead(run).startswith(
        "On the test split of stories, one arm was evaluated; the best by mean: Mine reached a "
        "reward of 0.478 [0.400,\u00a00.550] with 60.0"
    )
    assert list(told(run)) == ["Left open by this run"]


def test_without_thoughts_no_difference_is_one_of_latent_steps(tmp_path):
    """An arm that beats its controls with no thought left has not shown what thoughts do."""
    run = make_run(tmp_path)
    edit(run / "eval/litereason/summary.json", trigger_rate=around(0.01, 0.01))
    compare(run)
    claims = told(run)
    verdict, text = claims["The latent steps carry what belongs to their own story"]
    assert verdict == "Not shown" and "higher by 9.0 points" in text
    assert "say nothing of latent steps" in claims["There was little to replace"][1]
    text = plain(answers(read_run(run))[0].text)
    assert text.startswith(
        "Nothing can be said of them: only 1.0 % [0.0, 2.0] of LiteReason's samples"
    )


COPIES = (
    ("distil", "litereason"),
    ("distil-pause-told", "pause"),
    ("distil-other-row", "litereason-other-row"),
)


def with_distil(run):
    """The comparison with an arm more of ours, a copy of LiteReason with two controls, and shorter.

    That LiteReason itself is shorter than RL is no longer shown.
    """
    for home in run.glob("seed-*"):
        for name, like in COPIES:
            shutil.copytree(home / "eval" / like, home / "eval" / name)
            edit(home / "eval" / name / "summary.json", arm=name, title=name.capitalize())
    path = run / "comparison.json"
    told = json.loads(path.read_text())
    for name, like in COPIES:
        told["arms"][name] = told["arms"][like] | {"title": name.capitalize()}
    told["arms"]["distil"]["saved"] = {
        "base": None,
        "rl": {"discrete": around(0.8, 0.02), "total": around(0.75, 0.02)},
    }
    rows = {(p["a"], p["b"], p["metric"]): p for p in told["pairs"]}
    for (a, b, metric), new in (
        (("litereason", "rl", "accuracy"), ("distil", "rl")),
        (("litereason", "rl", "total_tokens"), ("distil", "rl")),
        (("litereason", "litereason-other-row", "accuracy"), ("distil", "distil-pause-told")),
        (("litereason", "litereason-other-row", "accuracy"), ("distil", "distil-other-row")),
    ):
        told["pairs"].append(rows[a, b, metric] | dict(zip("ab", new, strict=True)))
    rows["litereason", "rl", "total_tokens"]["p_corrected"] = 0.2
    path.write_text(json.dumps(told))
    return read_run(run)


def test_several_of_ours_are_told_together(tmp_path):
    run = with_distil(make_comparison(tmp_path))
    found = findings(run)
    table = grid(run, found)
    assert [arm.name for arm in table.arms] == ["rl", "distil", "litereason", "base"]
    asked = {plain(claim) for claim in table.claims}
    assert {
        "within 5 points of RL",
        "fewer tokens than RL",
        "latents do more than a trained pause",
    } <= asked
    marks = {plain(claim): verdict for claim, verdict in table.verdicts["distil"].items()}
    assert marks == {
        "within 5 points of RL": "Held",
        "fewer tokens than RL": "Held",
        "90 % of RL's gain with 70 % fewer tokens": "Partly",
        "latents do more than a pause that was told the same": "Held",
        "latents carry what belongs to their own story": "Held",
    }
    assert table.verdicts["litereason"]["latents do more than a trained pause"] == "Not shown"
    said = plain(sentences(run, found))
    assert said == (
        "On the test split of stories, over 3 seeds, RL reached 96.0 % [93.0, 99.0] with 60.0 "
        "[59.0, 61.0] discrete tokens a sample (n = 12 items × 3 seeds). Within 5 points of RL, with "
        "fewer tokens, latent steps counted: Distil, 93.0 % [90.0, 96.0] with 75 % [73, 77] fewer "
        "tokens. 90 % of RL's gain "
        "with 70 % fewer tokens: none of ours (in part: Distil). The best of all arms by its mean: RL, "
        "96.0 % [93.0, 99.0] with 60.0 [59.0, 61.0] tokens. Failed: CoLaR."
    )
    claims = told(tmp_path)
    assert (
        claims["The latent steps (distilled) do more than a pause that was told the same"][0]
        == "Held"
    )
    answer = answers(run)[0]
    assert answer.verdict == "Partly" and "the other control has no result" in answer.text


def test_a_rival_that_always_says_one_thing_is_told(tmp_path):
    run = with_distil(make_comparison(tmp_path))
    rival = dataclasses.replace(run.arm("direct"), name="coconut", title="COCONUT")
    pair = dataclasses.replace(run.comparisons[0], a="distil", b="coconut", metric="accuracy")
    run = dataclasses.replace(run, arms=(*run.arms, rival), comparisons=(*run.comparisons, pair))
    claim = "Distil is ahead of the other latent methods"
    said = plain(next(one for one in findings(run) if one.claim == claim).whole)
    assert (
        "(COCONUT is not shown to beat always giving the commonest answer: 50.0 % [47.0, 53.0])."
        in said
    )
    better = dataclasses.replace(rival, figures=run.arm("rl").figures)
    run = dataclasses.replace(run, arms=(*run.arms[:-1], better))
    assert "commonest" not in next(one for one in findings(run) if one.claim == claim).whole


def test_nothing_asked_of_ours_makes_no_table(tmp_path):
    run = read_run(make_run(tmp_path, arms=("base", "rl")))
    assert grid(run, findings(run)) is None


def test_arms_that_hang_on_no_seed_are_named(tmp_path):
    run = make_comparison(tmp_path)  # all its seeds have the same records
    for path in run.glob("seed-1/eval/*/records.jsonl"):
        if path.parent.name != "direct":
            path.write_text(path.read_text().replace("boxed", "fbox", 1))
    text = told(run)["Some arms wrote the same under every seed"][1]
    assert text == "Direct answer. Their seeds say no more than one would."
    assert "wrote the same" not in " ".join(told(run / "seed-0"))


def test_a_corrected_p_of_a_twentieth_shows_no_difference(tmp_path):
    """Holm's correction may take back what the interval alone would show."""
    run = make_run(tmp_path)
    for p, verdict in ((0.02, "Held"), (0.025, "Not shown")):  # corrected: .04, .05
        compare(run, {("litereason", "pause", "accuracy"): (0.03, 0.001, 0.059, p)})
        assert told(run)["The latent steps do more than a trained pause"][0] == verdict


def test_several_seeds_are_told(tmp_path):
    run = make_comparison(tmp_path)
    assert plain(lead(run)) == (
        "On the test split of stories, over 3 seeds, LiteReason reached 93.0 % [90.0, 96.0] with 30.0 "
        "[29.0, 31.0] discrete tokens a sample (n = 12 items × 3 seeds); RL reached 96.0 % [93.0, 99.0] "
        "with 60.0 [59.0, 61.0] discrete tokens a sample (n = 12 items × 3 seeds). LiteReason recovers "
        "93 % [88, 98] of the gain of RL over Base and needs 40 % [37, 43] fewer tokens than RL, latent "
        "steps counted. Failed: CoLaR."
    )
    claims = told(run)
    verdict, text = claims["LiteReason needs fewer tokens than RL without latent steps"]
    assert "RL 60.0 [59.0, 61.0]: 50 % [48, 52] fewer than RL" in text
    assert "it is 50 % [40, 60] more." in text  # against base's
    verdict, text = claims[
        "LiteReason keeps at least 90 % of RL's gain with at least 70 % fewer tokens"
    ]
    assert verdict == "Did not hold" and "recovers 93 % [88, 98]" in text  # .43 < .70
    curve = read_run(run).mean_curve("rl", "rl", "reward")
    seeds = read_run(run).curves["rl"]["rl"]
    assert len(seeds) == 3 and curve[7] == pytest.approx(
        (7, sum(one[7]["reward"] for one in seeds) / 3)
    )


@pytest.mark.parametrize(
    ("recovered", "saved", "written", "verdict", "why"),
    [
        (around(0.95, 0.04), around(0.75, 0.05), around(0.75, 0.05), "Held", "written."),
        (around(0.95, 0.06), around(0.75, 0.05), around(0.75, 0.05), "Partly", "below its goal."),
        (around(0.95, 0.04), around(0.71, 0.05), around(0.75, 0.05), "Partly", "below its goal."),
        (
            around(0.95, 0.04),
            around(0.35, 0.05),
            around(0.75, 0.05),
            "Did not hold",
            "Of what is written alone it holds.",
        ),
        (around(0.95, 0.04), around(0.69, 0.05), around(0.75, 0.05), "Not shown", "it holds."),
        (around(0.95, 0.06), around(0.35, 0.05), around(0.75, 0.05), "Did not hold", "written."),
        (around(0.89, 0.02), around(0.75, 0.05), around(0.75, 0.05), "Not shown", "the intervals."),
        (around(0.80, 0.09), around(0.75, 0.05), around(0.75, 0.05), "Did not hold", "written."),
    ],
)
def test_the_goal_is_judged_by_its_intervals(tmp_path, recovered, saved, written, verdict, why):
    run = make_run(tmp_path)
    data = json.loads((run / "comparison.json").read_text())
    data["arms"]["litereason"] |= {"recovered": recovered}
    data["arms"]["litereason"]["saved"]["rl"] = {"discrete": written, "total": saved}
    (run / "comparison.json").write_text(json.dumps(data))
    claim = "LiteReason keeps at least 90 % of RL's gain with at least 70 % fewer tokens"
    found, text = told(run)[claim]
    assert found == verdict and text.endswith(why)


OTHER, PAUSE = ("litereason", "litereason-other-row"), ("litereason", "pause")


@pytest.mark.parametrize(
    ("pause", "other", "verdict", "text"),
    [
        ((0.03, 0.01, 0.05, 0.001), (0.09, 0.06, 0.12, 0.001), "Held", "Yes: "),
        ((0.03, -0.01, 0.05, 0.2), (0.09, 0.06, 0.12, 0.001), "Partly", "In part: "),
        ((0.03, -0.01, 0.05, 0.2), (0.01, -0.06, 0.12, 0.6), "Not shown", "It was not shown: "),
        ((-0.03, -0.05, -0.01, 0.002), (0.09, 0.06, 0.12, 0.001), "Did not hold", "No: "),
        (None, (0.09, 0.06, 0.12, 0.001), "Partly", "In part: "),
        (None, None, "Not tested", "Not tested: LiteReason was compared neither with"),
    ],
)
def test_one_sentence_says_whether_latents_do_anything(tmp_path, pause, other, verdict, text):
    run = make_run(tmp_path)
    found = {(*PAUSE, "accuracy"): pause, (*OTHER, "accuracy"): other}
    compare(run, {key: value for key, value in found.items() if value})
    one = answers(read_run(run))[0]
    assert one.verdict == verdict and one.text.startswith(text) and one.text.count(". ") == 0
    if pause and verdict == "Held":
        assert plain(one.text) == (
            "Yes: LiteReason minus Trained pause: +3.0 points [1.0, 5.0], corrected p = 0.002, n = 40 "
            "items; minus Other row's latents: +9.0 points [6.0, 12.0], corrected p = 0.002, n = 40 items."
        )
    shutil.rmtree(run / "eval/litereason")
    compare(run)
    assert answers(read_run(run))[0].text == "Not tested: the arm litereason has no result."


def test_an_arm_that_dropped_its_thoughts_is_ahead_of_no_latent_method(tmp_path):
    run = make_run(tmp_path)
    shutil.copytree(run / "eval/pause", run / "eval/coconut")
    found = PAIRS | {("litereason", "coconut", "accuracy"): (0.1, 0.06, 0.15, 0.001)}
    compare(run, found)
    claim = "LiteReason is ahead of the other latent methods"
    assert told(run)[claim][0] == "Held"
    edit(run / "eval/litereason/summary.json", trigger_rate={"mean": 0.0, "low": 0.0, "high": 0.0})
    compare(run, found)
    verdict, text = told(run)[claim]
    assert verdict == "Not shown" and "what is ahead is reasoning in words" in text


def test_other_latent_methods_are_compared(tmp_path):
    run = make_run(tmp_path)
    for name in ("coconut", "colar"):
        shutil.copytree(run / "eval/pause", run / "eval" / name)
        edit(run / f"eval/{name}/summary.json", title=name.upper())
    found = {("litereason", "coconut", "accuracy"): (0.1, 0.05, 0.15, 0.001)}
    claim = "LiteReason is ahead of the other latent methods"
    compare(run, PAIRS | found)
    verdict, text = told(run)[claim]
    assert verdict == "Held" and text.endswith(
        "at all. ✓ LiteReason minus COCONUT: +10.0 points [5.0, 15.0], corrected p = 0.002, n = 40 items."
    )
    whole = read_run(run)
    soft = dataclasses.replace(whole.arms[0], name="soft-thinking", title="Soft", evaluations=())
    found_in = findings(dataclasses.replace(whole, failed=(soft,)))
    partly = next(one for one in found_in if plain(one.claim) == claim)
    assert partly.verdict == "Partly" and partly.points[-1] == "○ Soft failed, and is not compared."
    for difference, verdict in (
        ((0.01, -0.1, 0.12, 0.8), "Partly"),
        ((-0.1, -0.15, -0.05, 0.001), "Did not hold"),
    ):
        compare(run, found | {("litereason", "colar", "accuracy"): difference})
        assert told(run)[claim][0] == verdict
    # no latent method, so no rival here
    shutil.copytree(run / "eval/pause", run / "eval/rl-lp")
    compare(run, found | {("litereason", "rl-lp", "accuracy"): (-0.1, -0.15, -0.05, 0.001)})
    assert told(run)[claim][0] == "Held"
    words = told(run)["LiteReason is ahead of other reasoning in words"]
    assert words[0] == "Did not hold" and words[1].count(" minus ") == 1
    longer, shorter, unclear = (
        (x, x - 1, x + 1, p) for x, p in ((9, 0.001), (-9, 0.001), (0.5, 1))
    )
    for score, length, verdict in (
        ((0.1, 0.06, 0.14, 0.3), longer, "Held"),  # so much better: whatever the length, or p
        ((0.1, 0.04, 0.16, 0.001), longer, "Not shown"),  # by less, it may be
        ((0.01, -0.04, 0.06, 0.8), shorter, "Held"),
        ((-0.02, -0.04, -0.01, 0.001), shorter, "Held"),  # lower, but not by 5 points
        ((0.01, -0.08, 0.1, 0.8), shorter, "Not shown"),
        ((0.03, 0.01, 0.05, 0.001), unclear, "Not shown"),
        ((0.03, 0.01, 0.05, 0.001), longer, "Did not hold"),
        ((-0.1, -0.15, -0.06, 0.001), shorter, "Did not hold"),
    ):
        colar = {("litereason", "colar", "accuracy"): score}
        compare(run, colar | {("litereason", "colar", "total_tokens"): length})
        assert told(run)[claim][0] == verdict, (score, length)
