"""The benchmarks' own arithmetic and results file. Nothing here is timed: that is `make bench`."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
harness = importlib.import_module("harness")
run = importlib.import_module("run")

GOOD = """
from harness import report
print("a note")
report("good, one", 3.0, ("peer", 2.0), "<= 1.05", "s", 4)
report("good, two", 8.0, ("peer", 2.0), ">= 4", "rows a second", 4)
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory of benchmarks that works; its processes find the helper."""
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    (tmp_path / "bench_good.py").write_text(GOOD)
    return tmp_path


def results_of(directory: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    return {row["benchmark"]: row for row in rows}


@pytest.mark.parametrize(
    ("ratio", "goal", "expected"),
    [
        (1.05, "<= 1.05", True),
        (1.0501, "<= 1.05", False),
        (4.0, ">= 4", True),
        (3.999, ">=4", False),
    ],
)
def test_holds(ratio, goal, expected):
    assert harness.holds(ratio, goal) is expected


@pytest.mark.parametrize("goal", ["1.05", "< 1.05", "about 1", "<= x"])
def test_a_goal_that_cannot_be_read_is_refused(goal):
    with pytest.raises(ValueError, match="goal"):
        harness.holds(1.0, goal)


def test_record_of_a_comparison(capsys):
    record = harness.report("name", 3.0, ("peer", 2.0), "<= 1.05", "s", 7)
    assert json.loads(capsys.readouterr().out) == record
    assert tuple(record) == harness.KEYS
    assert (record["ratio"], record["holds"], record["other"]) == (1.5, False, {"peer": 2.0})
    paired = harness.report("name", 3.0, ("peer", 2.0), ">= 1.4", "s", 7, ratio=1.4)
    assert (paired["ratio"], paired["holds"]) == (1.4, True)


def test_pairs_alternate_and_medians_are_of_pairs():
    """On a clock that the arms push: ratios 2, 1, 10, 3, 4; the first cost of each is warm-up."""
    now, calls = [0.0], []
    costs = {
        "ours": iter([99.0, 4.0, 3.0, 50.0, 9.0, 4.0]),
        "other": iter([99.0, 2.0, 3.0, 5.0, 3.0, 1.0]),
    }

    def arm(name):
        def call():
            calls.append(name)
            now[0] += next(costs[name])

        return call

    pairs = harness.interleaved(arm("ours"), arm("other"), 5, clock=lambda: now[0])
    assert calls == ["ours", "other"] + ["ours", "other", "other", "ours"] * 2 + ["ours", "other"]
    assert (pairs.ratio, pairs.ours, pairs.other, pairs.n) == (3.0, 4.0, 3.0, 5)
    assert 1 <= pairs.low < pairs.ratio < pairs.high <= 10


def test_rates_turn_times_round():
    times = harness.Pairs(ratio=0.8, ours=8.0, other=10.0, low=0.5, high=1.0, n=3)
    rates = harness.as_rates(times, 8, 1)
    assert rates == pytest.approx((10.0, 1.0, 0.1, 8.0, 16.0, 3))
    assert rates.ours / rates.other == pytest.approx(rates.ratio)


def test_results_are_merged_and_kept(directory, capsys):
    older = harness.report("of a file not run", 1.0, ("peer", 1.0), "<= 1.05", "s", 1)
    stale = harness.report("good, one", 9.0, ("peer", 1.0), "<= 1.05", "s", 1)
    (directory / "bench_idle.py").write_text("raise SystemExit('must not run')")
    (directory / "results.jsonl").write_text(f"{json.dumps(older)}\n{json.dumps(stale)}\n")
    assert run.main(["--only", "good"], directory) == 0, "a goal that does not hold is no failure"
    results = results_of(directory)
    assert list(results) == ["good, one", "good, two", "of a file not run"]
    assert results["of a file not run"] == older
    assert (results["good, one"]["ratio"], results["good, one"]["holds"]) == (1.5, False)
    assert results["good, two"]["holds"] is True
    assert not [p for p in directory.iterdir() if p.name.startswith(".")], "temporary names left"
    shown = capsys.readouterr()
    assert "good, two" in shown.out and "a note" in shown.err


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('broken on purpose')", "broken on purpose"),
        ("print('done')", "no records"),
        ('print(\'{"benchmark": "half"}\')', "no records"),
        (GOOD.replace("good", "late") + "print('after')", "no records"),
    ],
)
def test_a_failing_benchmark_is_reported(directory, capsys, body, reason):
    (directory / "bench_bad.py").write_text(body)
    assert run.main([], directory) == 1
    assert reason in capsys.readouterr().err
    assert set(results_of(directory)) == {"good, one", "good, two"}, "the others still run"


def test_a_benchmark_that_never_ends_is_stopped(directory):
    (directory / "bench_slow.py").write_text("import time; time.sleep(60)")
    with pytest.raises(run.BenchmarkError, match=r"bench_slow.py took more than"):
        run.run_file(directory / "bench_slow.py", limit=0.5)


def test_a_damaged_results_file_is_reported_and_left_alone(directory, capsys):
    (directory / "results.jsonl").write_text("{not json\n")
    assert run.main([], directory) == 1
    assert "line 1" in capsys.readouterr().err
    assert (directory / "results.jsonl").read_text() == "{not json\n"


def test_an_unknown_name_is_refused(directory, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "nothing"], directory)
    assert "good" in capsys.readouterr().err
