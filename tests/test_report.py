"""The report: sentences against hand-computed figures, escaping, errors, and a real browser."""

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
from litereason.report import write_report
from litereason.report.findings import findings, summary
from litereason.report.read import read_run
from litereason.report.traces import choose

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

# name: (title, accuracy, discrete tokens, latent steps, trigger rate, ablation)
ARMS = {
    "base": ("Base", 0.55, 20.0, 0.0, 0.0, None),
    "direct": ("Direct answer", 0.50, 2.0, 0.0, 0.0, None),
    "direct-rl": ("Direct answer, RL", 0.53, 2.0, 0.0, 0.0, None),
    "rl": ("RL", 0.96, 60.0, 0.0, 0.0, None),
    "litereason": ("LiteReason", 0.93, 30.0, 6.0, 0.90, None),
    "pause": ("Trained pause", 0.90, 30.0, 6.0, 0.90, None),
    "litereason-other-row": ("Other row's latents", 0.84, 32.0, 6.0, 0.90, "other_row"),
    "litereason-zeros": ("Zeroed latents", 0.80, 33.0, 6.0, 0.90, "zeros"),
    "litereason-skip": ("Latents skipped", 0.82, 31.0, 0.0, 0.90, "skip"),
}
# (a, b, metric): (difference, low, high, p)
PAIRS = {
    ("rl", "base", "accuracy"): (0.41, 0.352, 0.451, 0.0002),
    ("litereason", "rl", "accuracy"): (-0.03, -0.045, -0.012, 0.004),
    ("litereason", "pause", "accuracy"): (0.03, -0.004, 0.061, 0.081),
    ("litereason", "litereason-other-row", "accuracy"): (0.09, 0.062, 0.121, 0.0002),
    ("direct-rl", "litereason", "accuracy"): (-0.40, -0.44, -0.35, 0.0002),
    ("litereason", "litereason-zeros", "accuracy"): (0.13, 0.10, 0.16, 0.0002),
    ("litereason", "litereason-skip", "accuracy"): (0.11, 0.08, 0.14, 0.0002),
    ("litereason", "rl", "total_tokens"): (-24.0, -26.0, -22.0, 0.0002),
}
STORY = "#1 Ada has a lamp. #2 Ben has a <script>alert('story')</script> & a kite.\n#3 They trade."


def around(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def make_run(run: Path, items: int = 40, arms: tuple[str, ...] = tuple(ARMS)) -> Path:
    """A run directory with every file; its figures are those of `ARMS`, not of its records."""
    chance = random.Random(0)
    for name in arms:
        title, accuracy, discrete, latent, trigger, ablation = ARMS[name]
        folder = run / "eval" / name
        folder.mkdir(parents=True)
        summary = {
            "arm": name,
            "title": title,
            "task": "stories",
            "split": "test",
            "model": f"runs/demo/rl/{name}",
            "items": items,
            "samples": 1,
            "seed": 0,
            "accuracy": around(accuracy, 0.03),
            "reward": around(accuracy, 0.03),
            "discrete_tokens": around(discrete, 1.0),
            "total_tokens": around(discrete + latent, 1.0),
            "latent_steps": around(latent, 0.0),
            "trigger_rate": around(trigger, 0.02 if trigger else 0.0),
            "steps_per_thought": 3.0 if latent else None,
            "truncated": 0.01,
            "seconds": 12.3,
            "command": f"litereason eval --run_dir {run} --arm {name}",
            "ablation": ablation,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=1))
        rows = [record(name, index, chance) for index in range(items)]
        (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [
        {"a": a, "b": b, "metric": metric, "items": items}
        | dict(zip(("difference", "low", "high", "p"), figures, strict=True))
        for (a, b, metric), figures in PAIRS.items()
        if {a, b} <= set(arms)
    ]
    (run / "comparisons.json").write_text(json.dumps(pairs))
    make_logs(run)
    return run


def record(arm: str, index: int, chance: random.Random) -> dict:
    _, accuracy, discrete, latent, _, _ = ARMS[arm]
    right, label = chance.random() < accuracy, "Yes" if index % 2 else "No"
    answer = label if right else {"Yes": "No", "No": "Yes"}[label]
    spans: list[list] = [["discrete", "Ada has the lamp <b>now</b>. " * round(discrete / 8)]]
    if "litereason" in arm or arm == "pause":
        spans.append(["tag", "<implicit_thought>3</implicit_thought>"])
        if latent:
            spans.append(["latent", 3])
        spans += [["discrete", " So #7 fits. "], ["tag", "<implicit_thought>3</implicit_thought>"]]
        if latent:
            spans.append(["latent", 3])
    spans.append(["discrete", f"\n\\boxed{{{answer}}}"])
    return {
        "item": f"test-{index}",
        "sample": 0,
        "label": label,
        "prompt": f"{STORY}\n#4 event {index}.\nIs there an error?",
        "spans": spans,
        "reward": float(right),
        "correct": right,
        "discrete_tokens": round(discrete),
        "latent_steps": round(latent),
        "thoughts": 2 if latent else 0,
        "truncated": False,
    }


def make_logs(run: Path) -> None:
    chance = random.Random(1)
    for arm, end in (("direct-rl", 0.53), ("rl", 0.96), ("litereason", 0.93)):
        folder = run / "rl" / arm
        folder.mkdir(parents=True)
        rows = []
        for step in range(150):
            share = 1 - 0.97**step
            row = {"step": step, "learning_rate": 1e-3, "entropy": 0.4}
            row["reward"] = 0.55 + (end - 0.55) * share + chance.gauss(0, 0.03)
            row["discrete_tokens"] = 20 + (ARMS[arm][2] - 20) * share + chance.gauss(0, 1)
            if arm == "litereason":
                row["trigger_rate"] = 1.0 if step < 75 else 0.9
            rows.append(json.dumps(row) + "\n")
        (folder / "metrics.jsonl").write_text("".join(rows))
    folder = run / "sft" / "litereason"
    folder.mkdir(parents=True)
    losses = [{"step": step, "loss": 2 * 0.98**step + 0.3} for step in range(100)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses))
    (run / "config.yaml").write_text("model: demo\n# <b>not bold</b>\nlearning_rate: 5.0e-7\n")
    (run / "timings.json").write_text('{"pretrain": 240.2, "rl: litereason": 130, "eval": 9.4}')


def told(run: Path) -> dict[str, tuple[str, str]]:
    """claim -> (verdict, text), with ordinary spaces."""
    plain = str.maketrans({"\u00a0": " ", "\u2212": "-"})
    return {one.claim: (one.verdict, one.text.translate(plain)) for one in findings(read_run(run))}


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_sentences_tell_the_figures(tmp_path):
    claims = told(make_run(tmp_path))
    assert claims["RL without latent steps beats the base model by at least 20 points"] == (
        "Held",
        "RL reached 96.0 % [93.0, 99.0] and Base 55.0 % [52.0, 58.0]: RL is higher by 41.0 points "
        "[35.2, 45.1], p < 0.001, n = 40 items.",
    )
    # (.93 - .55) / (.96 - .55) = .38 / .41 = .927
    assert claims["LiteReason stays within 5 points of RL without latent steps"] == (
        "Held",
        "LiteReason reached 93.0 % [90.0, 96.0] and RL 96.0 % [93.0, 99.0]: LiteReason is lower by "
        "3.0 points [1.2, 4.5], p = 0.004, n = 40 items. In means, LiteReason has 93 % of RL's "
        "gain over Base.",
    )
    assert claims["The latent steps do more than a trained pause"] == (
        "Not shown",
        "No difference was shown. LiteReason reached 93.0 % [90.0, 96.0] and Trained pause 90.0 % "
        "[87.0, 93.0]; LiteReason minus Trained pause: +3.0 points [-0.4, 6.1], p = 0.081, "
        "n = 40 items.",
    )
    verdict, text = claims["The latent steps carry what belongs to their own story"]
    assert verdict == "Held" and "higher by 9.0 points [6.2, 12.1], p < 0.001" in text
    assert "Left open by this run" not in claims


def test_token_savings_state_their_denominator(tmp_path):
    claims = told(make_run(tmp_path))
    verdict, text = claims["LiteReason needs fewer tokens than RL without latent steps"]
    assert verdict == "Held"
    assert "30.0 [29.0, 31.0] discrete tokens a sample, RL 60.0 [59.0, 61.0]: 50 % fewer" in text
    assert "36.0 [35.0, 37.0] against 60.0 [59.0, 61.0], 40 % fewer than RL" in text
    assert "paired difference -24.0 [-26.0, -22.0], p < 0.001, n = 40 items" in text
    assert "Against Base's 20.0 [19.0, 21.0] discrete tokens it is 50 % more." in text


def test_savings_that_latent_steps_eat_up_are_partial(tmp_path):
    run = make_run(tmp_path)
    (run / "comparisons.json").unlink()
    edit(run / "eval/litereason/summary.json", total_tokens=around(60.5, 1.0))
    claims = told(run)
    verdict, text = claims["LiteReason needs fewer tokens than RL without latent steps"]
    assert verdict == "Partly" and "1 % more than RL (the intervals overlap" in text
    verdict, text = claims["LiteReason stays within 5 points of RL without latent steps"]
    assert verdict == "Not tested" and "no paired comparison" in text


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
    pair = {"a": "base", "b": "rl", "metric": "accuracy", "p": 0.01, "items": 40}
    pair |= {"difference": -middle, "low": -high, "high": -low}  # stored the other way round
    (run / "comparisons.json").write_text(json.dumps([pair]))
    assert told(run)["RL without latent steps beats the base model by at least 20 points"][0] == (
        verdict
    )


def test_direct_answers_that_do_as_well_are_said(tmp_path):
    run = make_run(tmp_path)
    pair = {"a": "litereason", "b": "direct-rl", "metric": "accuracy", "p": 0.6, "items": 40}
    pair |= {"difference": 0.01, "low": -0.02, "high": 0.04}
    (run / "comparisons.json").write_text(json.dumps([pair]))
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
    found, text = told(run)["The policy still uses thoughts at the end of RL"]
    assert found == verdict
    assert f"from {100 * rates[0]:.1f} % (step 0) to {100 * rates[1]:.1f} % (step 10)" in text


def test_thoughts_that_are_gone_at_evaluation_are_gone(tmp_path):
    run = make_run(tmp_path)
    none = {"mean": 0.0, "low": 0.0, "high": 0.0}
    edit(run / "eval/litereason/summary.json", trigger_rate=none)
    assert told(run)["The policy still uses thoughts at the end of RL"][0] == "Did not hold"


def test_a_quick_run_is_marked(tmp_path):
    run = make_run(tmp_path)
    assert "This was a quick run" not in told(run)
    (run / "config.yaml").write_text("settings:\n  quick: true\n")
    assert told(run)["This was a quick run"][0] == "Note"


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
    for name in ("config.yaml", "comparisons.json", "timings.json"):
        (run / name).unlink()
    assert summary(read_run(run)).startswith(
        "On the test split of stories, one arm was evaluated; the best by mean: Mine reached a "
        "reward of 0.478 [0.400,\u00a00.550] with 60.0"
    )
    assert list(told(run)) == ["Left open by this run"]
    page = write_report(run).read_text()
    assert "Reward against tokens" in page and 'id="training"' not in page


def test_the_page_stands_alone_and_escapes_everything(tmp_path):
    run = make_run(tmp_path)
    out = write_report(run, tmp_path / "elsewhere" / "page.html")
    page = out.read_text()
    assert "<script" not in page and "&lt;script&gt;alert" in page
    assert "<b>" not in page and "&lt;b&gt;not bold" in page
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert "@import" not in page and "http" not in page
    assert out.stat().st_size < 5_000_000
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert page.count('title="thought of 3 latent steps"') > 2 and "●●●" in page
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
        ("comparisons.json", '[{"a": "rl"}]', r"comparisons\.json:1: entry 0: field 'b'"),
        ("timings.json", '{"eval": "long"}', r"timings\.json:1: field 'eval' is 'long'"),
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
    assert "<script" not in page and "&lt;script&gt;" in page and "litereason audit train" in page
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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")])
def test_the_page_in_a_browser(tmp_path, browser, width, scheme):
    page = write_report(make_run(tmp_path / "run"))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = browser.execute_script(widths)
    assert content <= window == width
    for name in ("table", "figure"):
        shown = browser.find_elements("css selector", f"main {name}")
        assert len(shown) == 3
        assert all(one.is_displayed() and one.size["height"] > 60 for one in shown)
    plots = browser.find_elements("css selector", "#trade-off svg[role=img]")
    assert [plot.is_displayed() for plot in plots] == [width > 500, width < 500]
    background, fill, stroke = browser.execute_script(
        "const text = document.querySelector('#training svg.plot:not(.swatch) text'),"
        " marker = document.querySelector('th svg use');"
        "return [getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(text).fill, getComputedStyle(marker).stroke]"
    )
    dark = scheme == "dark"
    assert (brightness(background) < 60) == dark and (brightness(fill) > 128) == dark
    assert stroke.startswith("rgb")  # the arm's colour variable is known
    # the keyboard reaches the skip link first, and no outside address was asked for
    body = browser.find_element("tag name", "body")
    body.send_keys("\ue004")
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    text = browser.execute_script("return document.querySelector('.trace .text').textContent")
    assert text.startswith("Ada has the lamp <b>now</b>. ")


def brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3


def test_without_thoughts_no_difference_is_one_of_latent_steps(tmp_path):
    """An arm that beats its controls with no thought left has not shown what thoughts do."""
    run = make_run(tmp_path)
    edit(run / "eval/litereason/summary.json", trigger_rate=around(0.01, 0.01))
    claims = told(run)
    verdict, text = claims["The latent steps carry what belongs to their own story"]
    assert verdict == "Not shown" and "higher by 9.0 points" in text
    assert "say nothing of latent steps" in claims["There was little to replace"][1]
