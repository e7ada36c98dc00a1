"""Two processes on gloo: the losses, weights and metrics of one process with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from litereason.checkpoints import load
from litereason.cli import main
from litereason.run_dir import only_run
from test_resume import metrics, setting  # noqa: F401  (a fixture)

# plain SGD: Adam would blow up what rounding makes of gradients near zero
OPTIONS = ["--logging_steps", "1", "--max_steps", "4", "--optim", "sgd", "--learning_rate", "0.2"]


def launch(*words, processes=2):
    """Run a script or `-m module` as torchrun does on a machine without GPUs."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes),
        "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", *words,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_two_processes_are_one(setting, loss_type):  # noqa: F811
    home, words = setting
    words = [*words, "--loss_type", loss_type, *OPTIONS]
    one, two = home / f"one-{loss_type}", home / f"two-{loss_type}"
    words += ["--gradient_accumulation_steps", "1"]
    # 8 completions a step in one process, 4 in each of two
    assert main(["rl", "--run_dir", str(one), *words, "--per_device_train_batch_size", "8"]) == 0
    done = launch("-m", "litereason", "rl", "--run_dir", str(two), *words)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, wanted = (metrics(run / "rl" / "litereason") for run in (two, one))
    assert [row["step"] for row in ours] == [row["step"] for row in wanted]
    for got, expected in zip(ours, wanted, strict=True):
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert got[key] == pytest.approx(value, rel=2e-4, abs=2e-6), key
    assert any(row.get("refresh_loss_after") for row in wanted)
    a, b = (load(run / "rl" / "litereason" / "model")[0].state_dict() for run in (two, one))
    for name, value in b.items():
        # by norm: Adam turns rounding in a gradient near 0 into a step of another sign
        assert float((a[name] - value).norm()) <= 1e-4 * float(value.norm()) + 1e-6, name
    for word in ("saved ", "never audited"):
        assert done.stderr.count(word) == 1, "one process speaks and writes"
    words += ["--max_steps", "1"]
    with only_run(home / "held" / "rl" / "litereason"):
        refused = launch("-m", "litereason", "rl", "--run_dir", str(home / "held"), *words)
    assert refused.returncode and refused.stderr.count("another process writes to") == 1


def test_sharded_weights_give_the_gradients_of_one_process():
    """FSDP2: forwards need all processes, which have other prompts and end at other times."""
    done = launch(str(Path(__file__).parent / "sharded.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 2
    for one in found:
        assert one["compared"] == one["of"] > 20
        assert one["off"] < 1e-4
        assert one["same"]
    assert max(found[0]["lengths"]) != max(found[1]["lengths"])
