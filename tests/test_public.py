"""The public surface: names, command line, README."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import litereason
from conftest import random_llama
from litereason.checkpoints import load, save
from litereason.cli import COMMANDS, main
from litereason.preference import PreferConfig
from litereason.stages import CollectConfig, EvalConfig, RLConfig, SFTConfig
from litereason.writing import WriteConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_public_names():
    assert sorted(litereason.__all__) == [
        "Completion", "LatentConfig", "LiteReasonError", "Tags", "attach", "detach", "load", "pending",
        "read_completion", "save",
    ]  # fmt: skip
    for name in litereason.__all__:
        assert getattr(litereason, name).__module__.startswith("litereason.")
    with pytest.raises(AttributeError):
        _ = litereason.nothing


def test_option_names_are_frozen():
    """Renaming an option breaks recipes: do it on purpose, with a line in the changelog."""
    shared = {"model", "task", "data", "reward", "task_options", "run_dir", "name", "split"}
    shared |= {"limit", "mode", "projector", "projector_depth", "seed"}
    sampler = {"samples", "temperature", "top_p", "top_k", "max_new_tokens", "batch_size"}
    sampler |= {"max_thoughts", "max_latent_steps", "prefix", "decoding", "decoding_options"}
    sft = {"traces", "train", "shares", "copies", "ratio", "loss_after", "max_length"}
    method = {"method", "method_options"}
    writing = {"model", "task_options", "plans", "run_dir", "name", "words", "rounds", "seed"}
    expected = {
        CollectConfig: shared | sampler | {"demonstrations", "prune"},
        SFTConfig: shared | sft | method | {"eval_traces", "eval_rows", "trainer"},
        RLConfig: shared | method | {"trainer", "rewards", "lora", "dry_run", "launch"},
        EvalConfig: shared | sampler | {"ablation", "title", "lens"},
        WriteConfig: sampler | writing,
        PreferConfig: {"run_dir", "arms", "judgements", "seed"},
    }
    for stage, names in expected.items():
        assert {field.name for field in dataclasses.fields(stage)} == names


def test_import_and_help_are_light():
    """`import litereason` and the overview load no torch: they answer at once."""
    code = (
        "import sys, litereason; from litereason.cli import main; main(['--help']); "
        "import litereason.report; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"litereason {command}: ") and len(out.splitlines()) > 2


def test_readme_names_every_source_file():
    tree = README.split("## Where things are")[1]
    for path in (ROOT / "src" / "litereason").iterdir():
        if path.name != "__pycache__":
            assert path.name in tree, f"{path.name} is missing in README's file tree"


def test_readme_recipes_exist():
    for recipe in set(re.findall(r"recipes/[\w.]+\.yaml", README)):
        assert (ROOT / recipe).is_file()


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.S)


def test_readme_example_runs(latent_llama, words, tmp_path, monkeypatch, capsys):
    """The ten lines, with a tiny random model in place of the real one."""
    save(latent_llama, tmp_path / "tiny")
    model, tokenizer = load(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(litereason, "load", lambda name: (model, tokenizer), raising=False)
    monkeypatch.setattr(litereason, "attach", lambda *args: model, raising=False)
    code = next(s for s in snippets() if "litereason.load" in s)
    exec(compile(code, "README", "exec"), {})
    steps, discrete, _ = capsys.readouterr().out.split(" ", 2)
    assert int(steps) >= 3 and int(steps) + int(discrete) <= 20
    assert (tmp_path / "my-model" / "config.json").exists()


def test_using_runs(words, tmp_path, monkeypatch):
    """Every block of docs/using.md, in order, with a tiny random model in place of the real one."""
    base = save(random_llama(words), tmp_path / "tiny", words)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "using.md").read_text()
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(code.replace("smollm2-135m", str(base)), "using.md", "exec"), names)
    assert len(names["ids"]) > 3 and type(names["plain"]).__name__ == "LlamaForCausalLM"
    assert names["done"].latent_steps >= 3


def test_rl_page_runs(tiny_base, tmp_path, monkeypatch):
    """The block of docs/rl.md makes a trainer; its table names every option of ours, with its default."""
    from litereason.grpo import LatentGRPOConfig
    from litereason.tasks.stories import StoriesTask

    page = (ROOT / "docs" / "rl.md").read_text()
    monkeypatch.chdir(tmp_path)
    model, tokenizer = load(tiny_base)
    litereason.attach(model, tokenizer)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    code = code.replace("num_generations=8", "num_generations=8, use_cpu=True, bf16=False")
    code = code.replace("trainer.train()", "").replace(
        '"correct_only"', '"correct_only", max_completion_length=32'
    )
    names = {"model": model, "tokenizer": tokenizer, "task": StoriesTask(size=4)}
    exec(compile(code, "rl.md", "exec"), names)
    assert names["trainer"].args.length_penalty == "correct_only"
    inherited = {field.name for field in dataclasses.fields(LatentGRPOConfig.__mro__[1])}
    ours = {field.name for field in dataclasses.fields(LatentGRPOConfig)} - inherited
    for name in ours:
        assert f"`{name}`" in page, f"{name} is missing in docs/rl.md"


def test_readme_task_works(tiny_base, tmp_path):
    code = next(s for s in snippets() if "class MyTask" in s)
    (tmp_path / "my_task.py").write_text(code)
    words = ["eval", "--model", str(tiny_base), "--run_dir", str(tmp_path), "--samples", "1"]
    assert main([*words, "--task", f"{tmp_path}/my_task.py:MyTask", "--max_new_tokens", "5"]) == 0
