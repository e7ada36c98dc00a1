"""What goes wrong for users: each a clear error, exit status 2, before anything expensive."""

import json
import re
from pathlib import Path

import pytest

import litereason
from conftest import random_llama, word_tokenizer
from litereason import checkpoints
from litereason.cli import main
from litereason.errors import ConfigError, LatentError, ModelError, RewardError

REWARD = """
from litereason.tasks.stories import StoriesTask

class Raises(StoriesTask):
    name = "raises"
    def reward(self, example, completion):
        raise ZeroDivisionError("no luck")

class Nothing(StoriesTask):
    name = "nothing"
    def reward(self, example, completion):
        return None

class Words(StoriesTask):
    name = "words"
    def reward(self, example, completion):
        return "good"

class Empty(StoriesTask):
    name = "empty"
    def examples(self, split, limit=None):
        return []

class Twice(StoriesTask):
    name = "twice"
    def examples(self, split, limit=None):
        return super().examples(split, 1) * 2

class Breaks(StoriesTask):
    name = "breaks"
    def examples(self, split, limit=None):
        return {}["missing"]

class Silent(StoriesTask):
    name = "silent"
    def prompt(self, example, mode="plain"):
        return None
"""


def fails(capsys, *words: object) -> str:
    """The message of a command that must fail with status 2."""
    assert main([str(word) for word in words]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def no_loading(monkeypatch):
    """Loading a model is the first expensive thing: these errors come before it."""

    def load(*args, **kwargs):
        raise AssertionError("a model was loaded before the input was checked")

    monkeypatch.setattr(checkpoints, "load", load)


def test_unknown_words(capsys, no_loading):
    assert "Did you mean eval?" in fails(capsys, "evall")
    assert "Did you mean --learning_rate?" in fails(capsys, "sft", "--learning_rte", "1")
    assert "Did you mean stories?" in fails(capsys, "eval", "--model", "x", "--task", "storys")
    assert "'sideways'" in fails(capsys, "eval", "--model", "x", "--mode", "sideways")
    assert "--model must be given" in fails(capsys, "rl")
    assert "expected int" in fails(capsys, "eval", "--model", "x", "--samples", "many")
    assert "'mind'" in fails(capsys, "eval", "--model", "x", "--ablation", "mind")
    assert "no such recipe" in fails(capsys, "eval", "--config", "nowhere.yaml")
    assert "takes the options" in fails(
        capsys, "eval", "--model", "x", "--task_options.colour", "red"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("limit", "0"),
        ("limit", "-1"),
        ("samples", "0"),
        ("batch_size", "0"),
        ("max_new_tokens", "0"),
        ("temperature", "-1"),
        ("top_p", "2"),
        ("top_k", "-3"),
    ],
)
def test_numbers_out_of_range(capsys, no_loading, option, value):
    message = fails(capsys, "eval", "--model", "x", f"--{option}", value)
    assert option in message and "expected" in message


def test_a_recipe_nearby_is_named(capsys, no_loading, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/compare_demo.yaml").write_text("task: stories\n")
    for wrong in ("recipes/compare_dmo.yaml", "compare_demo.yaml"):
        told = fails(capsys, "eval", "--config", wrong)
        assert told.endswith("Did you mean recipes/compare_demo.yaml?")


def test_trainer_options_are_checked(capsys, no_loading, tmp_path):
    words = ["rl", "--model", "x", "--run_dir", tmp_path, "--limit", 2]
    assert "expected float" in fails(capsys, *words, "--learning_rate", "fast")
    assert "the trainer refuses" in fails(capsys, *words, "--num_generations", "3")
    assert "use_vllm=True is not supported" in fails(capsys, *words, "--use_vllm", "true")


def test_a_failed_start_can_be_mended(capsys, tiny_base, tmp_path):
    words = ["eval", "--run_dir", tmp_path, "--limit", 2, "--samples", 1, "--max_new_tokens", 3]
    fails(capsys, *words, "--model", tmp_path / "nowhere")
    assert main([str(w) for w in [*words, "--model", tiny_base]]) == 0


def test_words_become_options_and_the_names_between_keep_their_hyphens():
    from litereason.options import merged, read_arguments

    words = ["--run-dir", "x", "--changes.distil-pause.sft.max-steps", "9", "--base.steps=3"]
    found = read_arguments(words)
    told = {"changes": {"distil-pause": {"sft": {"max_steps": "9"}}}, "base": {"steps": "3"}}
    assert found == {"run_dir": "x"} | told
    words = ["--variants.colar-slow", "{arm: colar}", "--variants.a-b.sft.max-steps", "3"]
    told = {"colar-slow": "{arm: colar}", "a-b": {"sft": {"max_steps": "3"}}}
    assert read_arguments(words) == {"variants": told}
    with pytest.raises(ConfigError, match="--base has a value already"):
        read_arguments(["--base", "true", "--base.steps", "3"])
    first = {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}
    assert merged(first, {"a": {"b": {"c": 5}}, "f": {"g": 6}}) == {
        "a": {"b": {"c": 5, "d": 2}, "e": 3},
        "f": {"g": 6},
    }
    assert first["a"]["b"]["c"] == 1


def test_text_options_are_text():
    """What is typed as text is not read as YAML; what is a number may be written 5e-7."""
    from litereason.cli import GenerateConfig
    from litereason.options import build, read_arguments
    from litereason.stages import EvalConfig

    for prompt in ("Question: who wrote Emma?", "yes", "2024-01-01", "{x}", "- a", "1e3"):
        given = read_arguments(["--model", "x", "--prompt", prompt])
        assert build(GenerateConfig, given).prompt == prompt
    found = build(EvalConfig, {"model": "x", "temperature": "5e-1", "limit": None})
    assert found.temperature == 0.5 and found.limit is None


def test_words_that_yaml_reads_otherwise():
    """`--save_strategy no` is a word, one reward file is a list of one."""
    from litereason.grpo import LatentGRPOConfig
    from litereason.options import Text, build
    from litereason.stages import RLConfig

    for given in (Text("no"), False, "no"):
        values = {"model": "x", "save_strategy": given, "rewards": Text("a.py:f")}
        config = build(RLConfig, values, LatentGRPOConfig)
        assert config.trainer["save_strategy"] == "no" and config.rewards == ("a.py:f",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh": "never"}, "expected one of epoch, off, joint"),
        ({"refresh_share": 0.0}, "refresh_share is 0.0"),
        ({"length_penalty": "short"}, "expected one of none, overlong, correct_only"),
        ({"long_prompts": "keep"}, "expected one of refuse, drop, truncate"),
        ({"rollout_batch_size": 0}, "rollout_batch_size is 0; expected at least 1"),
        ({"use_vllm": True}, "use_vllm=True is not supported"),
        ({"cache_implementation": "static"}, "leave it out"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing=True drops the KV cache"),
        (
            {"num_iterations": 3, "save_steps": 10, "num_generations": 8},
            "expected a multiple of 3",
        ),
        (
            {
                "gradient_accumulation_steps": 4,
                "steps_per_generation": 3,
                "save_steps": 1,
                "num_generations": 8,
            },
            "which is 4 micro-batches",
        ),
        ({"sync_ref_model": True}, "sync_ref_model=True is not supported"),
    ],
)
def test_what_rl_refuses(tmp_path, options, message):
    from litereason.grpo import LatentGRPOConfig

    with pytest.raises(ConfigError, match=re.escape(message)):
        LatentGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


def test_unknown_model(capsys, tmp_path):
    assert str(tmp_path) in fails(
        capsys, "generate", "--model", tmp_path, "--prompt", "Hello", "--max_new_tokens", 1
    )
    assert "nobody/nothing" in fails(
        capsys, "generate", "--model", "nobody/nothing", "--prompt", "x"
    )


def test_unknown_projector(capsys, tiny_base, tmp_path):
    message = fails(
        capsys, "eval", "--model", tiny_base, "--mode", "latent", "--projector", "magic",
        "--run_dir", tmp_path, "--limit", 2,
    )  # fmt: skip
    assert "'magic'" in message and "rms" in message


def test_model_without_a_usable_special_token():
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|latent|>"})
    model = random_llama(tokenizer)
    with pytest.raises(ModelError, match="special token that nothing else uses"):
        litereason.attach(model, tokenizer)
    with pytest.raises(ModelError, match="no free embedding row"):
        litereason.attach(model, tokenizer, litereason.LatentConfig(latent_token="<|new|>"))
    with pytest.raises(ModelError, match="an ordinary word"):
        litereason.attach(model, tokenizer, litereason.LatentConfig(latent_token=" w3"))


def test_a_free_embedding_row_takes_the_latent_token(words):
    model = random_llama(words, vocab_size=len(words) + 8)
    litereason.attach(model, words, litereason.LatentConfig(latent_token="<|new|>"))
    assert words.convert_tokens_to_ids("<|new|>") == model.latent_config.latent_token_id
    assert len(words) <= model.get_input_embeddings().weight.shape[0]


def test_tokenizer_of_another_model(words):
    with pytest.raises(ModelError, match="the tokenizer has"):
        litereason.attach(random_llama(words, vocab_size=20), words)
    with pytest.raises(ModelError, match="the tokenizer has"):
        litereason.attach(random_llama(words, vocab_size=5000), words)


def test_tokenizer_beside_a_latent_checkpoint(latent_llama, tmp_path):
    path = Path(litereason.save(latent_llama, tmp_path / "model"))
    config = json.loads((path / "config.json").read_text())
    config["litereason"]["latent_token_id"] = 7
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"does not have '<\|latent\|>' at id 7"):
        litereason.load(path)


def test_a_failed_attach_changes_nothing(words):
    model = random_llama(words)
    with pytest.raises(ConfigError, match="'mpl'"):
        litereason.attach(model, words, litereason.LatentConfig(projector="mpl"))
    assert not hasattr(model.config, "litereason")
    with pytest.raises(ModelError, match="pass tokenizer="):
        litereason.save(model, "nowhere")


def test_weights_that_cannot_be_read(latent_llama, tmp_path):
    path = Path(litereason.save(latent_llama, tmp_path / "model"))
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load the weights"):
        litereason.load(path)


def test_latents_that_no_norm_can_take_are_counted(latent_llama):
    import torch

    ids = torch.tensor([[1, 8, 38, 4, 4, 4, 9]])
    spine = latent_llama.base_model
    latent_llama(ids, use_cache=False)
    assert spine.latents_out_of_range == 0
    with torch.no_grad():
        spine.latent_projector.layers[-1].down_proj.weight.mul_(1e30)
    with pytest.warns(UserWarning, match="projector='rms'"):
        latent_llama(ids, use_cache=False)
    assert 1 <= spine.latents_out_of_range <= 3  # what follows a lost latent may be small again


def test_attached_twice(latent_llama, words):
    with pytest.raises(ModelError, match="already has latent steps"):
        litereason.attach(latent_llama, words)


def test_prompt_longer_than_the_context(capsys, tiny_base, tmp_path):
    message = fails(
        capsys, "eval", "--model", tiny_base, "--run_dir", tmp_path, "--limit", 2,
        "--max_new_tokens", 480,
    )  # fmt: skip
    assert "exceed the model's context of 512" in message and "test-0-" in message
    message = fails(
        capsys, "rl", "--model", tiny_base, "--run_dir", tmp_path, "--limit", 2,
        "--max_completion_length", 480, "--num_generations", 2,
    )  # fmt: skip
    assert "context of 512" in message


GOOD = [{"id": "a", "story": "One.", "answer": "Yes"}, {"id": "b", "story": "Two.", "answer": "No"}]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "is empty"),
        (['{"id": "a", "story": "One."', json.dumps(GOOD[1])], "line 1: not JSON"),
        ([json.dumps(GOOD[0]), "[1, 2]"], "line 2: expected a JSON object"),
        ([json.dumps(GOOD[0]), "\0\0\0"], "holds NUL bytes"),
        ([json.dumps(GOOD[0]), '{"id": "b", "answer": "No"}'], "line 2: field 'story'"),
        ([json.dumps(GOOD[0] | {"answer": "Maybe"})], "'answer' is 'Maybe'"),
        ([json.dumps(GOOD[0]), json.dumps(GOOD[0])], "the answer 'Yes' only"),
    ],
)
def test_bad_data_files(capsys, no_loading, tmp_path, lines, expected):
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(lines))
    assert expected in fails(
        capsys, "eval", "--model", "x", "--task", "flawed_fictions", "--run_dir", tmp_path,
        "--task_options.data", path,
    )  # fmt: skip


def test_missing_data_file(capsys, no_loading):
    assert "no such file" in fails(
        capsys,
        "eval",
        "--model",
        "x",
        "--task",
        "flawed_fictions",
        "--task_options.data",
        "no.jsonl",
    )
    assert "no such file" in fails(capsys, "sft", "--model", "x", "--traces", "no.jsonl")


def test_bad_traces(capsys, no_loading, tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text('{"prompt": "Hm?", "completion": "Yes."}\n{"prompt": "Hm?"}\n')
    words = ["sft", "--model", "x", "--run_dir", tmp_path, "--traces", path]
    assert "line 2: no text in 'completion'" in fails(capsys, *words)
    path.write_text('{"item": "test-0-9", "completion": "Yes."}\n')
    assert "item 'test-0-9' is not in this split" in fails(capsys, *words, "--limit", 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Raises", "raised ZeroDivisionError on example 'test-0-0': no luck"),
        ("Nothing", "returned None"),
        ("Words", "is 'good'"),
        ("Missing", "has no 'Missing'"),
        ("Empty", "must be Examples, got none"),
        ("Twice", "1 ids stand twice in 'test'"),
        ("Breaks", "raised KeyError on examples('test')"),
        ("Silent", "the prompt of 'test-0-0' is None"),
    ],
)
def test_bad_reward_functions(capsys, no_loading, tmp_path, name, expected):
    path = tmp_path / "my_task.py"
    path.write_text(REWARD)
    words = ["eval", "--model", "x", "--run_dir", tmp_path, "--limit", 2]
    assert expected in fails(capsys, *words, "--task", f"{path}:{name}")


def test_a_task_file_that_cannot_be_imported(capsys, no_loading, tmp_path):
    path = tmp_path / "broken.py"
    words = ["eval", "--model", "x", "--run_dir", tmp_path, "--task", f"{path}:Any"]
    for text, expected in (("def (", "SyntaxError"), ("import nowhere", "ModuleNotFoundError")):
        path.write_text(text)
        assert f"cannot be imported: {expected}" in fails(capsys, *words)


def test_reward_that_fails_in_the_middle():
    from litereason.tasks.base import score
    from litereason.tasks.stories import StoriesTask

    class Moody(StoriesTask):
        name = "moody"

        def reward(self, example, completion):
            return float("nan")

    example = Moody().examples("train", 1)[0]
    with pytest.raises(RewardError, match="'moody' is nan for example 'train-0-0'"):
        score(Moody(), example, "text")


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_gradient_checkpointing_is_refused(capsys, no_loading, tmp_path, stage):
    path = tmp_path / "traces.jsonl"
    path.write_text('{"prompt": "Hm?", "completion": "Well. Yes."}\n')
    words = [stage, "--model", "x", "--run_dir", tmp_path, "--gradient_checkpointing", "true"]
    words += ["--traces", path] if stage == "sft" else ["--limit", 2]
    assert "drops the KV cache" in fails(capsys, *words)


def test_gradient_checkpointing_is_refused_in_a_forward(latent_llama, words):
    import torch

    latent_id = latent_llama.latent_config.latent_token_id
    latent_llama.gradient_checkpointing_enable()
    latent_llama.train()
    with pytest.raises(LatentError, match="gradient checkpointing is on"):
        latent_llama(torch.tensor([[1, 8, latent_id, 9]]), use_cache=False)


def test_run_directory_of_another_config(capsys, tiny_base, tmp_path):
    words = ["eval", "--model", tiny_base, "--run_dir", tmp_path, "--max_new_tokens", 5]
    assert main([str(w) for w in [*words, "--limit", 2, "--samples", 1]]) == 0
    message = fails(capsys, *words, "--limit", 3, "--samples", 1)
    assert "limit: was 2, now 3" in message and "--run_dir" in message


def test_slot_at_the_start_and_embeddings_only(latent_llama):
    import torch

    latent_id = latent_llama.latent_config.latent_token_id
    with pytest.raises(LatentError, match="start of a sequence"):
        latent_llama(torch.tensor([[latent_id, 8, 9]]))
    with pytest.raises(LatentError, match="inputs_embeds"):
        latent_llama.generate(inputs_embeds=torch.zeros(1, 2, 32, dtype=torch.float64))


def test_report_without_results(capsys, tmp_path):
    assert "litereason eval" in fails(capsys, "report", "--run_dir", tmp_path)


def test_checkpoint_without_its_projector(latent_llama, tmp_path):
    from safetensors.torch import load_file, save_file

    path = Path(litereason.save(latent_llama, tmp_path / "model")) / "model.safetensors"
    weights = {k: v for k, v in load_file(path).items() if "latent_projector" not in k}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks its weights"):
        litereason.load(tmp_path / "model")


def test_latent_settings_are_checked():
    for settings in ({"depth": 0}, {"max_latent_steps": 0}, {"tag": "two words"}):
        with pytest.raises(ConfigError):
            litereason.LatentConfig(**settings)
    with pytest.raises(ConfigError, match="colour"):
        litereason.LatentConfig.from_dict({"colour": "red"})


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("loss_type", "foo", "one of grpo, dr_grpo"),
        ("temperature", 0.0, "above 0"),
        ("top_p", 0.0, "above 0, at most 1"),
        ("seed", -1, "0 or more"),
        ("refresh_shares", (2.0,), "shares from 0 to 1"),
        ("length_penalty_weight", -1.0, "0 or more"),
        ("scale_rewards", "maybe", "one of group"),
        ("num_iterations", 0, "at least 1"),
        ("max_steps", 0, "at least 1, or -1"),
        ("importance_sampling_level", "foo", "one of token"),
        ("length_penalty_span", 4096, "every completion would pay"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("delta", -1.0, r"delta is -1.0; expected above 1\.2"),
        ("delta", 1.2, r"expected above 1\.2"),
        ("delta", float("nan"), r"expected above 1\.2"),
        ("generation_kwargs", {"num_beams": 2}, "sampled, one at a time"),
        ("generation_kwargs", {"do_sample": False}, "sampled, one at a time"),
    ],
)
def test_rl_settings_out_of_range(tmp_path, option, value, expected):
    from litereason.rl_config import LatentGRPOConfig

    with pytest.raises(ConfigError, match=expected):
        LatentGRPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, length_penalty="overlong",
            **{option: value},
        )  # fmt: skip


@pytest.mark.parametrize(("given", "kept"), [("no", "none"), (False, "none"), ("True", "group")])
def test_scale_rewards_as_true_or_false(tmp_path, given, kept):
    """YAML reads `no` for false; TRL takes both."""
    from litereason.rl_config import LatentGRPOConfig

    args = LatentGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, scale_rewards=given)
    assert args.scale_rewards == kept
