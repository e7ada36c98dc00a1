"""RL that was killed at any step ends with the weights, order and metrics of a run that never was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import litereason
from litereason.checkpoints import load, save
from litereason.cli import main

TASK = """
import zlib
from litereason.tasks.stories import StoriesTask

class Hashed(StoriesTask):
    name = "hashed"

    def reward(self, example, completion):
        return float(zlib.crc32(completion.encode()) % 3)
"""


@pytest.fixture(scope="module")
def setting(tiny_base, tmp_path_factory):
    """A tiny model that likes to think, a task that rewards by hash, and the options of a run."""
    home = tmp_path_factory.mktemp("resume")
    (home / "task.py").write_text(TASK)
    model, tokenizer = load(tiny_base)
    torch.manual_seed(0)
    litereason.attach(model, tokenizer, litereason.LatentConfig(projector="rms", depth=1))
    tags = [f"\n<implicit_thought>{n}</implicit_thought>" for n in range(1, 6)]
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(tags)] += 0.05 * torch.randn(5, 96)
    save(model, home / "model")
    options = {
        "model": home / "model", "task": f"{home / 'task.py'}:Hashed", "mode": "latent", "limit": 6,
        "num_generations": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
        "max_completion_length": 16, "max_steps": 8, "save_steps": 2, "learning_rate": 1e-3,
        "refresh_share": 1.0, "length_penalty": "correct_only", "length_penalty_span": 8,
        "beta": 0.02, "logging_steps": 3,
    }  # fmt: skip
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    assert main(["rl", "--run_dir", str(home / "whole"), *words]) == 0
    return home, words


def metrics(directory: Path) -> list[dict]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("step", [1, 3, 5, 7])
def test_killed_at_a_step(setting, step):
    """The kill comes in the middle of that step: after its rollouts, before its update."""
    home, words = setting
    run = home / f"killed-{step}"
    start = (
        "import os, signal, sys\n"
        "from litereason import grpo, cli\n"
        "inner = grpo.LatentGRPOTrainer._compute_loss\n"
        "def loss(self, *args):\n"
        f"    if self.state.global_step == {step}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return inner(self, *args)\n"
        "grpo.LatentGRPOTrainer._compute_loss = loss\n"
        "cli.main(sys.argv[1:])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", start, "rl", "--run_dir", str(run), *words],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert main(["rl", "--run_dir", str(run), *words]) == 0
    whole, resumed = home / "whole" / "rl" / "litereason", run / "rl" / "litereason"
    ours, _ = load(resumed / "model")
    wanted, _ = load(whole / "model")
    for name, value in wanted.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert metrics(resumed) == metrics(whole)
    lines = (resumed / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    assert seconds == sorted(seconds), "time goes on from the killed process's"


def test_the_run_refreshed_its_projector(setting):
    """Otherwise the tests above would not show that a refresh survives."""
    rows = metrics(setting[0] / "whole" / "rl" / "litereason")
    assert any("refresh_loss_after" in row for row in rows)
    assert any(row.get("latent_steps", 0) > 0 for row in rows)


def test_a_checkpoint_is_whole_or_absent(setting):
    """Killed at some moment while it saves: what is left is taken, or removed."""
    from litereason.trainers import whole_checkpoint

    home, words = setting
    run = home / "saving"
    process = subprocess.Popen(
        [sys.executable, "-m", "litereason", "rl", "--run_dir", str(run), *words],
        stderr=subprocess.DEVNULL,
    )
    checkpoints = run / "rl" / "litereason" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("checkpoint-2/*.safetensors")):
        time.sleep(0.002)
    process.kill()
    process.wait()
    found = whole_checkpoint(checkpoints)
    left = list(checkpoints.glob("checkpoint-*"))
    assert [str(p) for p in left] == ([found] if found else [])
    assert main(["rl", "--run_dir", str(run), *words]) == 0
    assert metrics(run / "rl" / "litereason") == metrics(home / "whole" / "rl" / "litereason")


@pytest.mark.parametrize("changed", ["model", "data, task or reward file", "number of processes"])
def test_resuming_with_other_inputs_is_refused(setting, capsys, changed):
    home, words = setting
    run = home / f"other-{changed}"
    directory = run / "rl" / "litereason"
    assert main(["rl", "--run_dir", str(run), *words, "--max_steps", "1"]) == 0
    told = json.loads((directory / "inputs.json").read_text())
    (directory / "inputs.json").write_text(json.dumps(told | {changed: "0"}))
    for path in (directory / "model").iterdir():
        path.unlink()
    (directory / "model").rmdir()
    assert main(["rl", "--run_dir", str(run), *words, "--max_steps", "1"]) == 2
    assert f"begun with another {changed}" in capsys.readouterr().err


def test_a_finished_run_says_that_its_inputs_changed(setting, capsys):
    home, words = setting
    code = home / "task.py"
    assert main(["rl", "--run_dir", str(home / "whole"), *words]) == 0
    assert "already complete" in capsys.readouterr().err
    try:
        code.write_text(TASK.replace("% 3", "% 5"))
        assert main(["rl", "--run_dir", str(home / "whole"), *words]) == 2
        assert "begun with another data, task or reward file" in capsys.readouterr().err
    finally:
        code.write_text(TASK)
