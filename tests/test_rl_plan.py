"""The plan of an RL run: counts by hand, launches as accelerate reads them, plans that cannot end."""

from pathlib import Path

import pytest
import yaml

from litereason.cli import main
from litereason.errors import ConfigError, DataError
from litereason.grpo import LatentGRPOConfig
from litereason.rl_plan import Launch, check_enough, check_launch, plan, read_launch

RECIPES = Path(__file__).parents[1] / "recipes"


def arguments(tmp_path, **changes):
    options = {
        "output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "num_generations": 4,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 3, "max_completion_length": 10,
    }  # fmt: skip
    return LatentGRPOConfig(**(options | changes))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ddp", Launch(8, "MULTI_GPU")),
        ("fsdp2", Launch(8, "FSDP", 8, 8, 8)),
        ("deepspeed_zero2", Launch(8, "DEEPSPEED", 1, 8, 8)),
        ("deepspeed_zero3", Launch(8, "DEEPSPEED", 8, 8, 8)),
    ],
)
def test_launch_recipes(name, expected):
    found = read_launch(RECIPES / "launch" / f"{name}.yaml")
    assert found == expected
    assert found.sharded == (name in ("fsdp2", "deepspeed_zero3"))


def test_there_is_no_launch_recipe_without_a_test():
    assert {p.stem for p in (RECIPES / "launch").glob("*")} == {
        "ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3",
    }  # fmt: skip


def test_a_launch_that_accelerate_does_not_take(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_launch(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({"distributed_type": "MULTI_GPU", "colour": "red"}))
    with pytest.raises(ConfigError, match="accelerate does not take"):
        read_launch(bad)


def test_counts(tmp_path, latent_llama):
    """Two processes, 2 x 3 x 8 = 48 completions of 12 prompts; prompts of 20 tokens, 10 new ones."""
    args = arguments(tmp_path, beta=0.1, num_iterations=2)
    found = plan(latent_llama, args, [10, 20, 30] * 4, Launch(2, "MULTI_GPU"))
    assert (found.completions, found.prompts, found.prompt_tokens) == (48, 12, 20)
    assert found.positions == 12 * 20 + 48 * 10
    assert found.plain_positions == 48 * (20 + 10)
    assert (
        found.policy_forwards == 2 * 3 * 3
    )  # two passes; policy, old policy, reference; 3 micro-batches
    assert found.rollout_forwards == 11
    total = latent_llama.num_parameters()
    assert found.memory["weights"] == 4 * total == found.memory["reference"]
    assert found.memory["gradients"] + found.memory["optimiser"] == 12 * found.trained
    # 24 rows of 40 positions, 3 layers, 2 heads of 8, keys and values, and a state of 32
    assert found.memory["rollout cache"] == 4 * 24 * 40 * (2 * 3 * 2 * 8 + 32)
    fewer = plan(latent_llama, arguments(tmp_path, rollout_batch_size=8), [10] * 12, Launch())
    assert fewer.rollout_forwards == 3 * 11


@pytest.mark.parametrize(
    ("changes", "prompts"),
    [({}, 2), ({"num_generations": 8}, 2), ({"num_generations": 2}, 4), ({"refresh": "joint"}, 8)],
)
def test_prompts_that_the_policy_pass_computes(tmp_path, latent_llama, changes, prompts):
    """Two micro-batches of 4: once a group, again where one is split, in every row if joint."""
    args = arguments(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, **changes
    )
    assert plan(latent_llama, args, [20] * 8, Launch()).positions == prompts * 20 + 8 * 10


def test_sharded_weights_are_divided(tmp_path, latent_llama):
    args = arguments(tmp_path)
    whole = plan(latent_llama, args, [9] * 40, Launch(4, "MULTI_GPU")).memory
    cut = plan(latent_llama, args, [9] * 40, Launch(4, "FSDP", 4, 4, 4)).memory
    for part in ("weights", "gradients", "optimiser"):
        assert cut[part] == whole[part] // 4
    assert cut["rollout cache"] == whole["rollout cache"]


def test_latent_steps_with_sharded_weights_would_wait_for_ever(tmp_path):
    args = arguments(tmp_path)
    with pytest.raises(ConfigError, match="they would wait for each other for ever"):
        check_launch(args, "FSDP", sharded=True, latent=True, adapted=False)
    check_launch(args, "FSDP", sharded=True, latent=False, adapted=False)
    check_launch(args, "DEEPSPEED", sharded=False, latent=True, adapted=False)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_whole_reference_model_has_no_place_there(tmp_path, kind):
    args = arguments(tmp_path, beta=0.1)
    with pytest.raises(ConfigError, match=r"beta is 0\.1 and no adapter trains"):
        check_launch(args, kind, sharded=False, latent=True, adapted=False)
    check_launch(args, kind, sharded=False, latent=True, adapted=True)
    check_launch(args, "MULTI_GPU", sharded=False, latent=True, adapted=False)


def test_too_few_examples_for_one_step(tmp_path):
    args = arguments(tmp_path)
    assert check_enough(args, 1, 6) == 6
    with pytest.raises(DataError, match="11 examples, but a generation takes 12 prompts"):
        check_enough(args, 2, 11)


def test_dry_run_prints_and_writes_nothing(tiny_base, tmp_path, capsys):
    words = [
        "rl", "--model", tiny_base, "--mode", "latent", "--limit", 40, "--run_dir", tmp_path / "run",
        "--num_generations", 4, "--per_device_train_batch_size", 8, "--max_completion_length", 50,
        "--dry_run",
    ]  # fmt: skip
    assert main([*map(str, words)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("8 completions of 2 prompts", "forwards a process", "memory a process about"):
        assert text in shown
    assert not (tmp_path / "run").exists()
    words += ["--launch", RECIPES / "launch" / "fsdp2.yaml"]
    assert main([*map(str, words)]) == 2
    assert "wait for each other for ever" in " ".join(capsys.readouterr().err.split())
    words += ["--mode", "plain", "--lora.r", 4]
    assert main([*map(str, words)]) == 0
    assert "8 (FSDP)" in capsys.readouterr().out


def test_rl_itself_refuses_too_few_examples(tiny_base, tmp_path, capsys):
    words = [
        "rl",
        "--model",
        tiny_base,
        "--limit",
        1,
        "--run_dir",
        tmp_path,
        "--num_generations",
        4,
    ]
    words += ["--per_device_train_batch_size", 8, "--max_completion_length", 50]
    assert main([*map(str, words)]) == 2
    assert "not one step would be made" in " ".join(capsys.readouterr().err.split())
