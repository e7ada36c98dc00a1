"""The demo end to end at the smallest scale, and that it goes on where it stopped."""

from litereason import demo as module
from litereason import files, stages
from litereason.cli import main
from litereason.demo import ARMS, DemoConfig, Scale, demo

SMALLEST = Scale({"steps": 4, "batch_size": 8, "curriculum": 2, "hasty_steps": 1}, 12, 2, 2, 10)


def test_demo_runs_every_arm_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "QUICK", SMALLEST)
    monkeypatch.setattr(module, "NEW_TOKENS", 60)
    monkeypatch.setattr(module, "PROMPTS_A_STEP", 8)
    config = DemoConfig(run_dir=str(tmp_path / "run"), quick=True, workers=1)
    real, calls = stages.rl, []

    def fails_once(settings):
        calls.append(settings.name)
        if settings.name == "litereason" and calls.count("litereason") == 1:
            raise KeyboardInterrupt
        return real(settings)

    monkeypatch.setattr(stages, "rl", fails_once)
    # A tiny untrained model may earn nothing: the traces of the task itself stand in.
    monkeypatch.setattr(stages, "collect", gold_traces(stages.collect))
    assert main(["demo", "--quick", "--workers", "1", "--run_dir", config.run_dir]) == 130
    report = demo(config)
    assert report and report.stat().st_size > 50_000
    assert module.QUICK_NOTE in report.read_text()
    seed = tmp_path / "run" / "seed-0"
    for arm in ARMS:
        assert files.read_json(seed / "eval" / arm / "summary.json")["items"] == 10
    pairs = files.read_json(tmp_path / "run" / "comparison.json")["pairs"]
    assert ("litereason", "pause") in {(pair["a"], pair["b"]) for pair in pairs}
    assert calls.count("rl") == 1, "an arm that is done is not run again"
    told = capsys.readouterr().err
    assert "already complete" in told
    assert "never audited" not in told


def gold_traces(real):
    def collect(config):
        config.demonstrations = True
        return real(config)

    return collect
