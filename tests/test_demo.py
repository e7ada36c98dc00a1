"""The demo end to end at the smallest scale, and that it goes on where it stopped."""

from litereason import demo as module
from litereason import files
from litereason.cli import main
from litereason.demo import TITLES, DemoConfig, Scale, demo
from litereason.stories.pretrain import Lessons

SMALLEST = Scale(Lessons(steps=4, batch_size=8, curriculum=2, hasty_steps=1), 12, 2, 2, 1, 10)


def test_demo_runs_every_arm_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "QUICK", SMALLEST)
    monkeypatch.setattr(module, "NEW_TOKENS", 60)
    monkeypatch.setattr(module, "PROMPTS_A_STEP", 8)
    config = DemoConfig(run_dir=str(tmp_path / "run"), quick=True, workers=1)
    real = module.stages.rl
    calls = []

    def fails_once(settings):
        calls.append(settings.name)
        if settings.name == "litereason" and calls.count("litereason") == 1:
            raise KeyboardInterrupt
        return real(settings)

    monkeypatch.setattr(module.stages, "rl", fails_once)
    # A tiny untrained model may earn nothing: the traces of the task itself stand in.
    monkeypatch.setattr(module.Arms, "collect", gold_traces)
    assert main(["demo", "--quick", "--workers", "1", "--run_dir", config.run_dir]) == 130
    first = files.read_json(tmp_path / "run" / "timings.json")
    report = demo(config)
    assert report.stat().st_size > 50_000
    for arm in TITLES:
        assert files.read_json(tmp_path / "run" / "eval" / arm / "summary.json")["items"] == 10
    pairs = files.read_json(tmp_path / "run" / "comparison.json")["pairs"]
    assert ("litereason", "pause") in {(pair["a"], pair["b"]) for pair in pairs}
    again = files.read_json(tmp_path / "run" / "timings.json")
    assert all(again[name] == seconds for name, seconds in first.items()), "kept on resume"
    assert "already complete" in capsys.readouterr().err


def gold_traces(arms):
    from pathlib import Path

    from litereason.tasks.stories import StoriesTask

    task = StoriesTask()
    rows = [
        {"item": example.id, "completion": task.demonstration(example)}
        for example in task.examples("train", 12)
    ]
    return files.write_jsonl(
        Path(arms.config.run_dir) / "collect" / "traces" / "traces.jsonl", rows
    )
