"""The report's page: what stands on it, escaping, size, errors, runs with parts missing."""

import base64
import dataclasses
import gzip
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import litereason.report
from litereason.audit import Item, examine
from litereason.audit.record import save
from litereason.errors import ConfigError, DataError
from litereason.report import trade_off, write_report
from litereason.report.read import read_run
from litereason.report.style import COLOURS
from litereason.report.traces import choose, pieces
from report_runs import ARMS, add_lens, around, edit, make_comparison, make_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def records_of(page: str) -> dict:
    """What the trace viewer is given."""
    (found,) = re.findall(r'<script type="text/plain" id="records">([\w+/=]*)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(found)))


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_the_page_stands_alone_and_escapes_everything(tmp_path):
    run = make_run(tmp_path)
    out = write_report(run, tmp_path / "elsewhere" / "page.html")
    page = out.read_text()
    assert page.count("<script") == page.count("</script") == 2
    assert "<!--" not in page and "&lt;script&gt;alert" in page
    assert "<b>" not in page and "&lt;b&gt;not bold" in page
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert "@import" not in page and "http:" not in page and "https:" not in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in page
    )
    assert out.stat().st_size < 5_000_000
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert page.count('title="thought of 3 latent steps"') > 2 and "●●●" in page
    page = without_scripts(page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(re.findall("<h1", page)) == 1 and '<html lang="en">' in page
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert all(b - a <= 1 for a, b in zip([0, *levels], levels, strict=False))
    sections = [one for one in ids if not one.startswith(("trade-off-", "rl-", "sft-", "swatch-"))]
    assert len(sections) == len(set(sections))


def test_long_texts_keep_the_page_small(tmp_path):
    run = make_run(tmp_path, items=4)
    for path in run.glob("eval/*/records.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["prompt"], row["spans"] = f"{path} &" + "&" * 10**6, [["discrete", "<" * 10**6]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = write_report(run)
    assert out.stat().st_size < 5_000_000
    assert "more characters are left out here" in out.read_text()


def test_items_on_which_arms_differ_come_first(tmp_path):
    run = make_run(tmp_path, items=12, arms=("base", "rl"))
    for arm in ("base", "rl"):
        path = run / "eval" / arm / "records.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for index, row in enumerate(rows):
            row["correct"] = arm == "rl" if index == 7 else True
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = choose(read_run(run))
    assert choice.items[0].name == "test-7" and len(choice.items) == 3
    assert (choice.differing, choice.common) == (1, 12)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("eval/rl/summary.json", '{\n "arm": "rl",\n oops}', r"summary\.json:3: not JSON"),
        ("eval/rl/summary.json", '{"arm": "rl"}', r"summary\.json:1: field 'title' is missing"),
        ("eval/rl/records.jsonl", '\n{"item": 3}', r"records\.jsonl:2: field 'spans' is missing"),
        ("eval/rl/records.jsonl", "\n\n{", r"records\.jsonl:3: not JSON"),
        ("eval/rl/records.jsonl", '{"spans": [["latent", -1]]}', r"records\.jsonl:1: span"),
        ("rl/rl/metrics.jsonl", '{"step": 1}\n{"loss": 2}', r"metrics\.jsonl:2: field 'step'"),
        ("eval/rl/records.jsonl", '{"spans": [["latent", 2, [[["a", 0.5]]]]]}', r"jsonl:1: span"),
        ("eval/rl/records.jsonl", '{"spans": [["latent", 1, [["a", 0.5]]]]}', r"jsonl:1: span"),
        ("comparison.json", '{"arms": 3}', r"comparison\.json:1: field 'arms' is 3"),
        ("comparison.json", '{"arms": {}}', r"comparison\.json:1: arm 'base' is not in it"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, text, message):
    run = make_run(tmp_path)
    (run / name).write_text(text)
    with pytest.raises(DataError, match=message):
        write_report(run)
    assert not list(run.glob("*.html")) and not list(run.glob(".*"))


def test_wrong_kinds_of_figures_are_refused(tmp_path):
    path = make_run(tmp_path) / "eval/rl/summary.json"
    good = path.read_text()
    edit(path, accuracy={"mean": 0.9, "low": float("nan"), "high": 1})
    with pytest.raises(DataError, match="accuracy: field 'low' is nan; expected a finite number"):
        read_run(tmp_path)
    path.write_text(good)
    edit(path, seconds=True)
    with pytest.raises(DataError, match="field 'seconds' is True; expected int or float"):
        read_run(tmp_path)
    path.write_text(good)
    edit(path, accuracy=None, reward=None)
    with pytest.raises(DataError, match="both null"):
        read_run(tmp_path)
    (path.parent / "records.jsonl").unlink()
    path.write_text(good)
    with pytest.raises(DataError, match=r"records\.jsonl:1: the file is missing; run `litereason"):
        read_run(tmp_path)


def test_audits_are_shown_and_checked(tmp_path):
    run = make_run(tmp_path, items=4, arms=("base",))
    assert 'id="audit"' not in write_report(run).read_text()
    chance = random.Random(0)
    found = []
    for i in range(48):
        text = " ".join(chance.choices("abcdefghijkl", k=12)) + (" <script>" if i % 2 else "")
        found.append(Item(str(i), text, ("No", "Yes")[i % 2], "train"))
    for name, items in (("train", found), ("small", found[:8])):
        result = {"command": f"litereason audit {name}", **examine(items)}
        path = save(run / "audit" / name, result, items)
        assert path == run / "audit" / name / "audit.json"
    page = write_report(run).read_text().replace("\u00a0", " ")
    assert "✗ Leak" in page and "this rule alone is right for 100.0% of items" in page
    assert "Not concluded" in page and "8 independent items: nothing can be concluded" in page
    assert "<script" not in without_scripts(page)
    assert "&lt;script&gt;" in page and "litereason audit train" in page
    path = run / "audit" / "train" / "audit.json"
    result = json.loads(path.read_text())
    del result["search"]["leaks"][0]["p"]
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match=r"audit\.json:1: search: leaks, entry 0: field 'p'"):
        write_report(run)


def test_no_evaluation_says_what_to_run_first(tmp_path):
    with pytest.raises(DataError, match=r"run `litereason eval --run_dir .*` first"):
        write_report(tmp_path)


def test_the_report_needs_no_torch():
    # a bare parent package: what litereason itself imports is not this test's matter
    code = (
        "import sys, types; package = types.ModuleType('litereason'); "
        f"package.__path__ = [{str(Path(litereason.report.__file__).parents[1])!r}]; "
        "sys.modules['litereason'] = package; import litereason.report; "
        "found = {'torch', 'transformers', 'matplotlib', 'jinja2'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_library_names_the_install_line(tmp_path, monkeypatch, module):
    run = make_run(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'litereason\[report\]'"):
        write_report(run)


def table(page: str, label: str) -> list[list[str]]:
    """A table of the page as text, by the label of its region."""
    inner = page.split(f'aria-label="{label}"')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", inner, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in cells]


def test_a_comparison_of_several_seeds_shows_every_figure(tmp_path):
    run = make_comparison(tmp_path)
    page = write_report(run).read_text().replace("\u00a0", " ").replace("\u2212", "-")
    rows = {row[0]: row for row in table(page, "Figures of every arm")}
    assert rows["Arm"][1:3] == [
        "Accuracy",
        "Discrete tokens",
    ]  # a reward that says the same is not shown
    assert rows["LiteReason"][1] == "93.0 % [90.0, 96.0] 93.0, 93.0, 93.0"
    assert rows["LiteReason"][-2:] == ["12", "0, 1, 2"]
    rows = table(page, "Tokens saved, gain recovered, and the Pareto front")
    assert rows[0][1:5] == [
        "Discrete, against Base",
        "Total, against Base",
        "Discrete, against RL",
        "Total, against RL",
    ]
    rows = {row[0]: row[1:] for row in rows}
    ours = [
        "-50 % [-60, -40]",
        "-80 % [-90, -70]",
        "50 % [48, 52]",
        "40 % [37, 43]",
        "93 % [88, 98]",
        "87 %",
    ]
    assert rows["LiteReason"] == ours
    assert rows["Base"] == ["–", "–", *ours[2:4], "–", "2 %"]
    assert rows["RL"] == [*ours[:2], "–", "–", "–", "87 %"] and rows["Zeroed latents"][-1] == "–"
    (row,) = [
        row
        for row in table(page, "Paired differences")
        if row[0] == "LiteReason - RL" and "acc" in row[1]
    ]
    told = ["-3.0 points [-4.5, -1.2]", "-3.0, -3.0, -3.0", "0.004", "0.008", "40 × 3", "yes"]
    assert row[2:] == told
    rows = {row[0]: row[1:] for row in table(page, "Cost of every arm")}
    assert rows["Arm"][2:] == ["FLOPs", "Training tokens", "Seconds"]
    assert rows["RL"] == ["115.2", "104 M", "3.2 T", "1.23 M", "1 min 15 s"]
    assert rows["Base"][:2] == ["–", "–"]
    assert ["RL", "What rl trains.", "By tags.", "Two stages."] in table(page, "What every arm is")
    assert "CoLaR</strong> failed under every seed: DataError: &lt;none&gt; earned a reward" in page
    for place in ("seed-0/rl/litereason", "seed-2/eval/litereason"):
        assert f"<summary>{place}/config.yaml</summary>" in page
    assert "stage: eval &lt;2&gt;" in page
    # three thin lines and their mean, an arm
    drawing = page.split('class="plot rl-reward-3"')[1].split("</svg>")[0]
    assert (
        drawing.count("stroke-opacity: 0.4") == 9
        and drawing.count("stroke-width: 1.8; stroke-linecap") >= 3
    )


def test_what_is_asked_of_ours_stands_in_one_table(tmp_path):
    page = write_report(make_comparison(tmp_path)).read_text().replace("\u00a0", " ")
    rows = {row[0]: row[1:] for row in table(page, "What is asked of LiteReason's arms")}
    assert rows[""] == ["RL", "LiteReason", "Base"]
    assert rows["Fewer than RL"] == ["–", "40 % [37, 43]", "40 % [37, 43]"]
    assert rows["Latents do more than a trained pause"] == ["", "○ Not shown", ""]
    assert rows["Fewer tokens than RL"] == ["", "✓ Held", ""]
    assert "Trains What litereason trains.." in page
    assert "<h1>Stories: 10 arms under 3 seeds</h1>" in page


def test_many_arms_are_drawn_in_two_pictures(tmp_path, monkeypatch):
    run = make_run(tmp_path, items=3)
    assert "in one picture" not in write_report(run).read_text()
    monkeypatch.setattr(trade_off, "MOST_NAMES", 8)
    page = write_report(run).read_text()
    assert "All 9 arms in one picture" in page and "5 of 9 arms." in page
    key, whole = (
        page.split(f'class="plot {n}"')[1].split("</svg>")[0]
        for n in ("trade-off-wide", "trade-off-all-wide")
    )
    assert "zero" not in key.lower() and whole.count("<use") > key.count("<use")


def test_an_arm_that_failed_under_some_seeds_shows_what_it_has(tmp_path):
    run = make_comparison(tmp_path)
    shutil.rmtree(run / "seed-1/eval/pause")
    data = json.loads((run / "comparison.json").read_text())
    data["arms"]["pause"] |= {"status": "partial", "seeds": [0, 2], "reason": "seed 1: no memory"}
    (run / "comparison.json").write_text(json.dumps(data))
    page = write_report(run).read_text()
    assert "failed under some seeds (figures are of seed 0, 2): seed 1: no memory" in page
    found = records_of(page)
    traces, pause = found["items"][0]["traces"], found["arms"].index("pause")
    assert {trace[1] for trace in traces if trace[0] == pause} == {0, 2}


def test_without_comparison_json_a_run_is_told_by_its_summaries(tmp_path):
    run = make_run(tmp_path)
    (run / "comparison.json").unlink()
    page = write_report(run).read_text()
    assert "Paired differences" not in page and "Gain recovered" not in page
    assert "Not tested: LiteReason was compared neither" in page
    run = make_comparison(tmp_path / "compare")
    (run / "comparison.json").unlink()
    with pytest.raises(DataError, match=r"json:1: the file is missing; run `litereason compare"):
        write_report(run)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (("litereason",), "LiteReason reached 93.0"),
        (("direct",), "one arm was evaluated"),
        (("base", "litereason", "pause"), "LiteReason minus Trained pause"),
        (("rl", "litereason"), "Left open by this run"),
    ],
)
def test_one_sided_runs_still_render(tmp_path, arms, said):
    page = write_report(make_run(tmp_path, items=4, arms=arms)).read_text()
    assert said in page.replace("\u00a0", " ")
    assert records_of(page)["arms"] == sorted(arms, key=list(ARMS).index)


def test_a_comparison_lists_its_arms_in_its_own_order(tmp_path):
    run = make_comparison(tmp_path, seeds=1, items=4)
    assert [arm.name for arm in read_run(run).arms] == list(ARMS)
    (run / "arms.json").write_text("{}")
    order = list(json.loads((run / "comparison.json").read_text())["arms"])[:-1]
    assert order == sorted(ARMS) and [arm.name for arm in read_run(run).arms] == order


def test_a_reward_only_and_metrics_of_the_tasks_own(tmp_path):
    run = make_run(tmp_path, items=4, arms=("rl",))
    (run / "comparison.json").unlink()
    own = {"strict": around(0.25, 0.05), "words": around(126.41, 4.2), "absent": None}
    edit(run / "eval/rl/summary.json", accuracy=None, reward=around(0.478, 0.05), metrics=own)
    page = write_report(run).read_text()
    assert "Reward against tokens" in page
    rows = table(page, "Figures of every arm")
    assert rows[0][1:4] == ["Reward", "Strict", "Words"]
    assert rows[1][2].startswith("0.250 [0.200") and rows[1][3].startswith("126.4 [122.2")


def test_a_comparison_in_which_every_arm_failed_says_so(tmp_path):
    run = make_comparison(tmp_path, items=4)
    for path in run.glob("seed-*"):
        shutil.rmtree(path)
    data = json.loads((run / "comparison.json").read_text())
    failed = {"colar": data["arms"]["colar"]}
    (run / "comparison.json").write_text(
        json.dumps(data | {"arms": failed, "pairs": [], "seeds": []})
    )
    page = write_report(run).read_text()
    assert "No arm has a result" in page and "earned a reward" in page
    assert 'id="trade-off"' not in page and 'id="traces"' not in page
    (run / "comparison.json").write_text(json.dumps(data | {"arms": {}, "pairs": [], "seeds": []}))
    with pytest.raises(DataError, match="holds no evaluated arm; run `litereason eval"):
        write_report(run)
    (run / "seed-0").mkdir()
    with pytest.raises(DataError, match="holds no evaluated arm yet; its `litereason compare`"):
        write_report(run)


def test_the_head_names_the_base_model_of_arms_with_their_own(tmp_path):
    page = write_report(make_run(tmp_path)).read_text()
    assert re.search(r"<dt>Base model</dt>\s*<dd>\S*/base</dd>", page)
    assert "different ones" not in page


def test_the_viewer_gets_what_was_written(tmp_path):
    run = make_run(tmp_path, items=4)
    path = run / "eval/litereason/records.jsonl"
    add_lens(path, 1)
    found = records_of(write_report(run).read_text())
    assert found["arms"] == list(ARMS) and found["seeds"] == [0] and found["total"] == 4
    assert [item["name"] for item in found["items"]] == [f"test-{i}" for i in range(4)]
    row = json.loads(path.read_text().splitlines()[0])
    (trace,) = [one for one in found["items"][0]["traces"] if found["arms"][one[0]] == "litereason"]
    _, seed, prompt, correct, reward, discrete, latent, truncated, cut, pieces = trace
    assert found["items"][0]["prompts"][prompt] == row["prompt"] and "<script>" in row["prompt"]
    assert (seed, correct, reward, discrete, latent) == (0, row["correct"], row["reward"], 30, 6)
    assert (truncated, cut) == (False, 0)
    tag = "<implicit_thought>3</implicit_thought>"
    lens = [[[f" word{step}", 0.7], ["<b>", 0.125], ["\n", 0.1]] for step in range(3)]
    assert pieces[1:4] == [[tag, 3, lens], " So #7 fits. ", [tag, 3, lens]]
    assert found["first"] == 0  # there is a lens to look through


def test_a_line_break_before_a_tag_is_no_part_of_its_mark(tmp_path):
    run = make_run(tmp_path, items=1)
    (record,) = [r for one in read_run(run).arms for e in one.evaluations for r in e.records][:1]
    spans = (
        ("tag", "\n<t>2</t>", None),
        ("latent", 2, None),
        ("tag", "\n", None),
        ("latent", 1, None),
    )
    found, cut = pieces(dataclasses.replace(record, spans=spans), 100)
    assert [(one.text, one.steps) for one in found] == [
        *(("\n", None), ("<t>2</t>", 2), ("\n", None), ("", 1)),
    ]
    assert cut == 0


def test_too_many_records_are_sampled_by_rule(tmp_path):
    """Items on which arms differ come before others; what is kept is counted."""
    run, noise = make_run(tmp_path, items=60, arms=("base", "rl")), random.Random(0)
    for arm in ("base", "rl"):
        path = run / "eval" / arm / "records.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for index, row in enumerate(rows):
            row["correct"] = arm == "rl" if index in (7, 31) else True
            row["spans"] = [["discrete", noise.randbytes(30_000).hex()]]  # cannot be packed
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = write_report(run)
    found = records_of(out.read_text())
    names = [item["name"] for item in found["items"]]
    assert 4_000_000 < out.stat().st_size < 5_000_000
    assert found["total"] == 60 and 30 < len(names) < 55
    assert {"test-7", "test-31"} <= set(names) and found["first"] in map(
        names.index, ("test-7", "test-31")
    )
    assert sorted(names, key=lambda name: int(name[5:])) == names
    assert found == records_of(write_report(run).read_text())


def test_the_front_is_that_of_the_means(tmp_path):
    """By hand: rl and litereason are not beaten; base (20 tokens) is by none; pause is by litereason."""
    run = read_run(make_run(tmp_path))
    assert [arm.name for arm in trade_off.front(run)] == ["direct-rl", "base", "litereason", "rl"]


def test_dollars_in_a_name_are_no_formula(tmp_path):
    run = make_run(tmp_path)
    title = r"at $5 \foo{ $ x"
    edit(run / "eval/rl/summary.json", title=title)
    (run / "comparison.json").unlink()
    assert title in write_report(run).read_text()


def test_how_sure_the_front_is_stands_in_the_markers(tmp_path):
    run = make_comparison(tmp_path, items=4)
    drawing = trade_off.plot(read_run(run))
    assert drawing.count("fill-opacity: 0.87") == 5 and drawing.count("fill-opacity: 0.02") == 1
    assert "On the Pareto front of the means: Direct answer, RL, Base, LiteReason, RL." in drawing


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_has_the_contrast_of_wcag_aa():
    css = (Path(litereason.report.__file__).parent / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media", 1)
    )
    assert light.keys() == dark.keys()
    for scheme, values in enumerate((light, dark)):
        for back in ("page", "raised"):
            for name in ("text", "muted", "link", "good", "bad", "doubt"):
                assert contrast(values[name], values[back]) >= 4.5, (name, back)
            for pair in COLOURS:
                assert contrast(pair[scheme], values[back]) >= 4.5, (pair, back)
        assert contrast(values["thought"], values["thought-text"]) >= 4.5
