"""The stages as a user runs them, on the tiny model with random weights: whole, killed, resumed."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from litereason import files
from litereason.cli import main
from litereason.errors import ConfigError
from litereason.run_dir import only_run, open_stage

SAMPLER = ["--max_new_tokens", "40", "--batch_size", "20", "--temperature", "1", "--top_p", "1"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


def collect(model: Path, run_dir: Path, name: str = "arm") -> list[object]:
    options = ["--model", model, "--run_dir", run_dir, "--name", name, "--limit", 20]
    return ["collect", *options, *SAMPLER]


def sft(model: Path, run_dir: Path, name: str = "arm") -> list[object]:
    options = ["--model", model, "--run_dir", run_dir, "--name", name, "--limit", 20]
    options += ["--mode", "latent", "--projector_depth", 1, "--max_steps", 12, "--save_steps", 2]
    options += ["--shares", "[0.5]", "--copies", 1, "--traces", run_dir / "traces.jsonl"]
    return ["sft", *options]


@pytest.fixture
def traces(tmp_path) -> Path:
    """Right traces of the task itself, as a traces file in a run directory."""
    from litereason.tasks.stories import StoriesTask

    task = StoriesTask()
    rows = [
        {"item": example.id, "completion": task.demonstration(example)}
        for example in task.examples("train", 20)
    ]
    files.write_jsonl(tmp_path / "run" / "traces.jsonl", rows)
    return tmp_path / "run"


def test_all_stages_one_after_the_other(tiny_base, tmp_path, capsys):
    arm = tmp_path / "run"
    assert run(*collect(tiny_base, arm), "--samples", 5) == 0
    kept = files.read_jsonl(arm / "collect" / "arm" / "traces.jsonl")
    assert kept and all(row["reward"] > 0 for row in kept)
    words = [word if word != arm / "traces.jsonl" else arm / "collect/arm/traces.jsonl"
             for word in sft(tiny_base, arm)]  # fmt: skip
    assert run(*words, "--train", "all", "--max_steps", 2) == 0
    options = ["--run_dir", arm, "--name", "arm", "--mode", "latent"]
    trainer = ["--max_steps", 2, "--num_generations", 4, "--per_device_train_batch_size", 8]
    trainer += ["--gradient_accumulation_steps", 1, "--max_completion_length", 20]
    trainer += ["--refresh_share", "1.0"]
    model = arm / "sft" / "arm" / "model"
    assert run("rl", "--model", model, *options, "--limit", 2, *trainer) == 0
    metrics = files.read_jsonl(arm / "rl" / "arm" / "metrics.jsonl")
    assert metrics[0]["step"] == 1 and 0 <= metrics[0]["trigger_rate"] <= 1
    model = arm / "rl" / "arm" / "model"
    assert run("eval", "--model", model, *options, "--limit", 30, "--samples", 2, *SAMPLER) == 0
    summary = files.read_json(arm / "eval" / "arm" / "summary.json")
    assert summary["items"] == 30 and summary["samples"] == 2
    assert summary["accuracy"]["low"] <= summary["accuracy"]["mean"] <= summary["accuracy"]["high"]
    capsys.readouterr()
    assert run("report", "--run_dir", arm) == 0
    assert Path(capsys.readouterr().out.strip()).stat().st_size > 10_000


def test_a_complete_stage_is_skipped(tiny_base, tmp_path, capsys):
    words = collect(tiny_base, tmp_path)
    assert run(*words) == 0
    before = (tmp_path / "collect" / "arm" / "traces.jsonl").stat().st_mtime_ns
    assert run(*words) == 0
    assert (tmp_path / "collect" / "arm" / "traces.jsonl").stat().st_mtime_ns == before
    assert "already complete" in capsys.readouterr().err


def start(words: list[object]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "litereason", *map(str, words)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen, ready, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def evaluation(model: Path, run_dir: Path) -> list[object]:
    options = ["--model", model, "--run_dir", run_dir, "--name", "arm", "--limit", 60]
    options += ["--samples", 2, "--max_new_tokens", 150, "--batch_size", 5, "--temperature", 1]
    return ["eval", *options]


def test_killed_evaluation_goes_on_and_ends_the_same(tiny_base, tmp_path):
    partial = tmp_path / "killed" / "eval" / "arm" / "records.partial.jsonl"
    process = start(evaluation(tiny_base, tmp_path / "killed"))
    kill_when(process, lambda: partial.exists() and partial.stat().st_size > 5000)
    done = partial.read_bytes().count(b"\n")
    assert 0 < done < 120
    with partial.open("ab") as file:
        file.write(b'{"prompt_index": 3, "sam')  # a line that the kill cut off
    assert not (partial.parent / "summary.json").exists()
    assert run(*evaluation(tiny_base, tmp_path / "killed")) == 0
    assert run(*evaluation(tiny_base, tmp_path / "whole")) == 0
    killed = files.read_jsonl(tmp_path / "killed" / "eval" / "arm" / "records.jsonl")
    whole = files.read_jsonl(tmp_path / "whole" / "eval" / "arm" / "records.jsonl")
    assert len(killed) == 120 and killed == whole


def test_killed_training_goes_on_and_ends_the_same(tiny_base, traces):
    words = sft(tiny_base, traces, "killed")
    checkpoints = traces / "sft" / "killed" / "checkpoints"
    process = start(words)
    kill_when(process, lambda: any(checkpoints.glob("checkpoint-*/trainer_state.json")))
    (checkpoints / "checkpoint-11").mkdir()  # one that the kill left half-written
    assert not (traces / "sft" / "killed" / "model").exists()
    assert run(*words) == 0
    assert not checkpoints.exists()
    assert run(*sft(tiny_base, traces, "whole")) == 0
    killed, whole = (
        load_file(traces / "sft" / name / "model" / "model.safetensors")
        for name in ("killed", "whole")
    )
    assert killed.keys() == whole.keys()
    assert all((killed[key] == whole[key]).all() for key in whole)
    steps = [row["step"] for row in files.read_jsonl(traces / "sft" / "killed" / "metrics.jsonl")]
    assert steps == sorted(set(steps)) and steps[-1] == 12


@pytest.mark.parametrize("stage", ["collect", "sft", "rl", "eval"])
def test_two_processes_do_not_run_one_stage(tiny_base, traces, capsys, stage):
    """The second changes nothing, not even the settings that the first has just written."""
    directory = traces / stage / "arm"
    words = {"collect": collect, "sft": sft, "eval": evaluation}
    options = ["--model", tiny_base, "--run_dir", traces, "--name", "arm", "--limit", 2]
    words = words[stage](tiny_base, traces) if stage in words else ["rl", *options]
    with only_run(directory):
        files.write_text(directory / "config.yaml", "settings: {}")
        assert run(*words) == 2
    assert f"another process writes to {directory}" in " ".join(capsys.readouterr().err.split())
    assert (directory / "config.yaml").read_text() == "settings: {}"


def test_a_process_that_died_holds_nothing(tmp_path):
    code = "import sys, time; from pathlib import Path; from litereason.run_dir import only_run\n"
    code += "with only_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match="another process"), only_run(tmp_path):
        pass
    process.kill()
    process.wait()
    with only_run(tmp_path):
        pass


def test_a_failed_start_can_be_begun_anew_with_other_settings(tiny_base, tmp_path):
    """The lock that it left does not count as work done."""
    words = evaluation(tmp_path / "no-model", tmp_path)
    assert run(*words) == 2
    assert (tmp_path / "eval" / "arm" / ".lock").exists()
    assert run(*evaluation(tiny_base, tmp_path), "--limit", 1, "--max_new_tokens", 2) == 0


def test_an_option_that_came_later_counts_as_its_default(tmp_path):
    old = dataclasses.make_dataclass("Old", [("steps", int)])
    new = dataclasses.make_dataclass("New", [("steps", int), ("joined", bool, False)])
    open_stage(tmp_path, old(3))
    (tmp_path / "output").touch()
    open_stage(tmp_path, new(3))
    with pytest.raises(ConfigError, match="joined: was False, now True"):
        open_stage(tmp_path, new(3, True))


@dataclasses.dataclass
class Told:
    model: str
    traces: str = ""
    steps: int = 1


def test_what_others_made_must_be_what_a_stage_was_begun_with(tmp_path):
    model, traces, home = tmp_path / "model", tmp_path / "traces.jsonl", tmp_path / "stage"
    model.mkdir()
    (model / "weights").write_bytes(b"1")
    traces.write_text("{}\n")
    told = Told(str(model), str(traces))
    open_stage(home, told)
    (home / "output").touch()
    open_stage(home, told)
    (model / "README.md").write_text("A card is no weights.")
    open_stage(home, told)
    (model / "weights").write_bytes(b"2")
    with pytest.raises(ConfigError, match="begun with another model directory under"):
        open_stage(home, told)
    traces.write_text("{} \n")
    with pytest.raises(ConfigError, match="another model directory and traces file under"):
        open_stage(home, told)
    (home / "output").unlink()  # with nothing made yet, it may begin anew
    open_stage(home, dataclasses.replace(told, steps=2))
    open_stage(home, dataclasses.replace(told, steps=2))
    (home / "output").touch()
    (model / "weights").unlink()
    model.joinpath("README.md").unlink()
    model.rmdir()  # a finished stage does not need it any more
    open_stage(home, dataclasses.replace(told, steps=2))


def test_full_disk_is_said_and_nothing_is_lost(tiny_base, tmp_path, monkeypatch, capsys):
    words = collect(tiny_base, tmp_path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run(*words) == 1
    assert "no space left" in capsys.readouterr().err
    assert not (tmp_path / "collect" / "arm" / "traces.jsonl").exists()
    assert run(*words) == 0


def test_projector_sft_leaves_the_base_alone(tiny_base, traces):
    assert run(*sft(tiny_base, traces)) == 0
    before = load_file(tiny_base / "model.safetensors")
    after = load_file(traces / "sft" / "arm" / "model" / "model.safetensors")
    assert all((before[key] == after[key]).all() for key in before)
    assert any("latent_projector" in key for key in after)


def test_held_out_losses_come_with_controls(tiny_base, traces):
    held_out = ["--eval_traces", traces / "traces.jsonl", "--eval_rows", 6]
    assert run(*sft(tiny_base, traces), *held_out, "--max_steps", 2) == 0
    found = files.read_json(traces / "sft" / "arm" / "summary.json")["held_out"]
    assert found["rows"] == 6 and found["latents"] > 0
    for control in ("zeros", "noise", "init", "other_row"):
        assert found[control]["loss"] > 0 and found[control]["items"] == 6
        assert found[control]["not_finite"] == 0


def test_rows_that_are_not_finite_are_counted(latent_llama, monkeypatch):
    from litereason import sft as training
    from litereason.ablations import held_out_losses

    losses = iter([[(2.0, 1), (4.0, 2)]] + 4 * [[(float("nan"), 1), (6.0, 2)]])
    monkeypatch.setattr(training, "row_losses", lambda *args: next(losses))
    found = held_out_losses(latent_llama, [{}, {}], 0)
    assert found["latents"] == 2.0
    assert found["noise"]["not_finite"] == 1 and found["noise"]["items"] == 1
    assert found["noise"]["loss"] == 3.0 and found["noise"]["difference"] == 1.0


def test_demonstrations_as_traces(tiny_base, tmp_path):
    assert run(*collect(tiny_base, tmp_path), "--demonstrations") == 0
    rows = files.read_jsonl(tmp_path / "collect" / "arm" / "traces.jsonl")
    assert len(rows) == 20 and all("boxed" in row["completion"] for row in rows)


def test_thoughts_in_a_prompt_are_expanded(latent_llama, words):
    from litereason.sampling import encode

    text = " w1<implicit_thought>3</implicit_thought> w2"
    latent = latent_llama.latent_tags.latent_token_id
    assert encode(words, text).count(latent) == 0
    assert encode(words, text, latent_llama.latent_tags).count(latent) == 3


def test_recipe_with_overrides(tiny_base, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {tiny_base}\nrun_dir: {tmp_path}/run\nname: arm\n"
        "eval:\n  limit: 4\n  samples: 1\n  max_new_tokens: 10\n  temperature: 1.0\n"
    )
    assert run("eval", "--config", recipe, "--samples", 2) == 0
    config = (tmp_path / "run" / "eval" / "arm" / "config.yaml").read_text()
    assert "samples: 2" in config and "limit: 4" in config and "versions:" in config
    command = json.loads((tmp_path / "run/eval/arm/summary.json").read_text())["command"]
    assert "--samples 2" in command
