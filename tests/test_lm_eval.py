"""lm-evaluation-harness on a model with latent steps: local tasks, no network."""

import json
import math
import subprocess
import sys

import pytest
import torch

from conftest import TAG_WORDS, random_llama, word_tokenizer
from litereason import LatentConfig, attach, load, save
from litereason.reserved_token import LATENT_TOKEN

lm_eval = pytest.importorskip("lm_eval")

GENERATE = """
task: tiny_generate
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", " w0"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CHOOSE = """
task: tiny_choose
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: gold
doc_to_choice: choices
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def task_manager(tmp_path, monkeypatch):
    """A task that generates and one that compares likelihoods, over six questions."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    rows = [
        {
            "question": " w3 w4"
            + f" w{i}" * i
            + TAG_WORDS[i % 4],  # lengths differ; some owe steps
            "answer": f" w{i}",
            "choices": [" w5", " w6 w7 w8", " w7 w9"],
            "gold": i % 3,
        }
        for i in range(6)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    for name, text in (("generate", GENERATE), ("choose", CHOOSE)):
        text = text.replace("DATA", str(tmp_path / "data.jsonl"))
        text = text.replace("CACHE", str(tmp_path / "cache"))
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text)
    return TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)


def evaluate(model, tokenizer, task, task_manager, batch_size=2, **options):
    """lm-eval's result, as a user would call it."""
    from lm_eval.models.huggingface import HFLM

    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task],
        task_manager=task_manager,
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )


def metric_of(result, task, name):
    return float(result["results"][task][f"{name},none"])


def responses(result, task):
    return [row["resps"] for row in sorted(result["samples"][task], key=lambda r: r["doc_id"])]


@pytest.fixture
def generated(latent_llama, monkeypatch):
    """All ids that `generate` of the model returns, prompts included."""
    seen = []
    original = latent_llama.generate

    def spy(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(latent_llama, "generate", spy)
    return seen


def test_generation_takes_latent_steps_that_leave_no_text(
    latent_llama, words, task_manager, generated
):
    result = evaluate(latent_llama, words, "tiny_generate", task_manager)
    assert math.isfinite(metric_of(result, "tiny_generate", "exact_match"))
    latent = latent_llama.latent_config.latent_token_id
    assert sum(int((ids == latent).sum()) for ids in generated) > 10
    texts = [text for [[text]] in responses(result, "tiny_generate")]
    assert len(texts) == 6 and any(texts)
    assert not any(LATENT_TOKEN in text or "<pad>" in text for text in texts)
    assert any(tag in text for tag in TAG_WORDS[1:] for text in texts), "tags are text"


def test_batches_say_what_single_rows_say(latent_llama, words, task_manager):
    """Rows of different lengths are padded on the left, whatever the tokenizer says."""
    one, many = (
        responses(
            evaluate(latent_llama, words, "tiny_generate", task_manager, size), "tiny_generate"
        )
        for size in (1, 3)
    )
    assert one == many
    words.padding_side = "right"
    right = evaluate(latent_llama, words, "tiny_generate", task_manager, 3)
    assert responses(right, "tiny_generate") == one


def test_our_options_reach_generate(latent_llama, words, task_manager, generated):
    """`gen_kwargs`, or `generation_kwargs` in the task, may switch latent steps off or bound them."""
    evaluate(latent_llama, words, "tiny_generate", task_manager, gen_kwargs="latent=False")
    latent = latent_llama.latent_config.latent_token_id
    assert len(generated) == 3 and not any((ids == latent).any() for ids in generated)
    generated.clear()
    evaluate(latent_llama, words, "tiny_generate", task_manager, gen_kwargs="max_latent_steps=1")
    runs = [(ids[:, 1:] == latent) & (ids[:, :-1] == latent) for ids in generated]
    assert any((ids == latent).any() for ids in generated) and not any(r.any() for r in runs)


def test_a_stop_string_ends_the_text(latent_llama, words, task_manager):
    """One that comes after a thought: lm-eval looks for it in the decoded ids."""

    def texts(until):
        result = evaluate(
            latent_llama, words, "tiny_generate", task_manager, gen_kwargs={"until": until}
        )
        return [text for [[text]] in responses(result, "tiny_generate")]

    before = texts(["\n"])
    stop = next(f" {w}" for t in before for w in t.split(">")[-1].split() if w.startswith("w"))
    after = texts(["\n", stop])
    assert after == [text.split(stop)[0] for text in before]
    assert after != before


def test_likelihoods_are_those_of_the_plain_model(latent_llama, words, task_manager):
    """Choices are scored without latent steps, padding on the right."""
    result = evaluate(latent_llama, words, "tiny_choose", task_manager)
    assert math.isfinite(metric_of(result, "tiny_choose", "acc"))
    rows = sorted(result["samples"]["tiny_choose"], key=lambda row: row["doc_id"])
    for row in rows:
        for [(found, _)], choice in zip(row["resps"], row["doc"]["choices"], strict=True):
            context, rest = (words(t)["input_ids"] for t in (row["doc"]["question"], choice))
            ids = torch.tensor([context + rest])
            with torch.no_grad():
                spread = latent_llama(ids).logits.log_softmax(-1)[0, len(context) - 1 : -1]
            wanted = spread.gather(1, torch.tensor(rest)[:, None]).sum()
            assert abs(found - float(wanted)) < 1e-4


def test_a_loaded_checkpoint_and_an_adapter(latent_llama, task_manager, tmp_path):
    peft = pytest.importorskip("peft")
    path = save(latent_llama, tmp_path / "model")
    wanted = responses(
        evaluate(latent_llama, word_tokenizer(), "tiny_generate", task_manager), "tiny_generate"
    )
    model, tokenizer = load(path)
    found = evaluate(model, tokenizer, "tiny_generate", task_manager)
    assert responses(found, "tiny_generate") == wanted
    adapter = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    found = evaluate(adapter, tokenizer, "tiny_generate", task_manager)
    assert responses(found, "tiny_generate") == wanted


def test_the_latent_token_leaves_no_text_though_the_tokenizer_calls_it_ordinary(words):
    """lm-eval decodes with `skip_special_tokens=True`; Gemma's `<unused0>` is no special token."""
    words.add_tokens(["<unused0>"])
    model = random_llama(words)
    attach(model, words, LatentConfig(latent_token="<unused0>"))
    latent = model.latent_config.latent_token_id
    ids = words(" w1 w2")["input_ids"]
    assert words.decode([ids[0], latent, ids[1]], skip_special_tokens=True) == " w1 w2"


def test_the_command_line_knows_our_model_type(latent_llama, task_manager, tmp_path):
    """`python -m litereason.lm_eval`: a checkpoint by its path, a local task, figures in a file."""
    wanted = responses(
        evaluate(latent_llama, word_tokenizer(), "tiny_generate", task_manager), "tiny_generate"
    )
    path = save(latent_llama, tmp_path / "model")
    words = ["--model", "litereason", "--model_args", f"pretrained={path}", "--batch_size", "2"]
    words += ["--tasks", "tiny_generate", "--include_path", str(tmp_path / "tasks")]
    words += ["--output_path", str(tmp_path / "out"), "--log_samples", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "litereason.lm_eval", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (place,) = (tmp_path / "out").rglob("samples_tiny_generate_*.jsonl")
    rows = sorted(map(json.loads, place.read_text().splitlines()), key=lambda row: row["doc_id"])
    assert [row["resps"] for row in rows] == wanted


def test_arguments_that_would_load_another_model_are_refused():
    from litereason.errors import ConfigError
    from litereason.lm_eval import LatentLM

    with pytest.raises(ConfigError, match=r"model_args \['peft'\] say how lm-eval loads a model"):
        LatentLM("nowhere", peft="adapter")
