"""`inspect_latents` and `skipped_probability` against the naive loop; `litereason inspect` as typed."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

import litereason
import naive
from conftest import random_llama, word_tokenizer
from litereason import checkpoints, files
from litereason.ablations import ablated
from litereason.cli import main
from litereason.errors import ConfigError, LatentError, LiteReasonError
from litereason.evaluate import evaluate
from litereason.inspection import inspect_latents, latent_lens, skipped_probability
from litereason.sampling import SamplingConfig
from litereason.stages import EvalConfig
from litereason.stages import evaluate as evaluate_stage
from litereason.streaming import DOT
from litereason.tasks import Example, Task
from test_properties import byte_tokenizer

WORDS = word_tokenizer()
SLOT = WORDS.convert_tokens_to_ids("<|latent|>")
ONE, TWO, THREE = (
    WORDS.convert_tokens_to_ids(f"<implicit_thought>{n}</implicit_thought>") for n in (1, 2, 3)
)
IDS = [1, 8, 9, TWO, SLOT, SLOT, 10, ONE, SLOT, THREE, SLOT, SLOT, 11]
SLOTS = {4: (0, 0), 5: (0, 1), 8: (1, 0), 10: (2, 0), 11: (2, 1)}


@pytest.fixture(scope="module", params=["rms", "pause"])
def model(request):
    config = litereason.LatentConfig(projector=request.param, depth=1)
    return litereason.attach(random_llama(WORDS), WORDS, config)


@torch.no_grad()
def direct(model, ids: list[int], place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(latent that goes in at `place`, the LM head's probabilities there), step by step."""
    inputs = naive.inputs_of(model, ids)
    logits = model.lm_head(naive.hidden_of(model, inputs)[place])
    keep = torch.arange(len(logits)) != SLOT
    chances = torch.zeros_like(logits)
    chances[keep] = logits[keep].softmax(0)
    return inputs[place], chances


def test_steps_equal_a_direct_recomputation(model):
    table = model.get_input_embeddings().weight.detach()
    steps = inspect_latents(model, IDS, top=4)
    assert {s.position: (s.thought, s.step) for s in steps} == SLOTS
    assert [s.position for s in steps] == list(SLOTS)
    for step in steps:
        latent, chances = direct(model, IDS, step.position)
        best = chances.topk(4)
        assert [text for text, _ in step.says] == [WORDS.decode([i]) for i in best.indices]
        assert [p for _, p in step.says] == pytest.approx(best.values.tolist(), rel=1e-4)
        cosines = cosine_similarity(latent[None], table)
        cosines[SLOT] = -1
        near = cosines.topk(4)
        assert [text for text, _ in step.near] == [WORDS.decode([i]) for i in near.indices]
        assert [c for _, c in step.near] == pytest.approx(near.values.tolist(), abs=1e-4)
        size = latent.pow(2).mean().sqrt() / table.pow(2).mean().sqrt()
        assert step.norm == pytest.approx(float(size), rel=1e-4)


def test_all_probabilities_add_up_to_one(model):
    names = len(WORDS)
    step = inspect_latents(model, IDS, top=names)[0]
    assert sum(p for _, p in step.says) == pytest.approx(1, abs=1e-5)
    assert [p for _, p in step.says] == sorted((p for _, p in step.says), reverse=True)
    assert "<|latent|>" not in dict(step.says) and "<|latent|>" not in dict(step.near)
    assert all(-1 <= c <= 1 for _, c in step.near)
    assert len(inspect_latents(model, IDS)[0].says) == 5


def test_a_step_does_not_see_what_follows(model):
    whole = inspect_latents(model, IDS)
    for end in (5, 6, 9):
        part = inspect_latents(model, IDS[:end])
        for one, other in zip(part, whole, strict=False):
            assert (one.position, one.step) == (other.position, other.step)
            assert one.norm == pytest.approx(other.norm, rel=1e-5)
    assert inspect_latents(model, [1, 8, TWO, 9]) == []


def test_the_lens_looks_at_the_projector_in_place(model):
    own = latent_lens(model, IDS, top=4)
    assert own == [list(step.says) for step in inspect_latents(model, IDS, top=4)]
    assert latent_lens(model, IDS, start=8) == latent_lens(model, IDS)[2:]
    with ablated(model, "zeros"):
        zeroed = latent_lens(model, IDS, top=4)
        for said, place in zip(zeroed, SLOTS, strict=True):
            best = direct(model, IDS, place)[1].topk(4)
            assert [p for _, p in said] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert zeroed != own
    before = torch.get_rng_state()
    with ablated(model, "noise"):
        latent_lens(model, IDS)
    assert torch.equal(torch.get_rng_state(), before)


class Words(Task):
    name = "words"

    def examples(self, split, limit=None):
        return [Example(f"{split}-{i}", f" w{i} w{i + 1}", "w1") for i in range(6)][:limit]

    def prompt(self, example, mode="plain"):
        return example.text + f"<implicit_thought>{len(example.id) % 3 + 1}</implicit_thought>"

    def reward(self, example, completion):
        return float(example.answer in completion)


@pytest.mark.parametrize("ablation", [None, "other_row", "noise"])
def test_looking_through_the_lens_changes_no_record(model, tmp_path, ablation):
    """`lens` adds to the latent spans of so many items; all that was sampled stays the same."""
    config = SamplingConfig(samples=2, temperature=1.0, max_new_tokens=24, batch_size=3)
    read = []
    for lens in (0, 3):
        place = (tmp_path / str(lens), "words", ablation, lens)
        evaluate(model, WORDS, Words(), Words().examples("t"), "plain", config, *place)
        read.append(files.read_jsonl(tmp_path / str(lens) / "records.jsonl"))
    looked = 0
    for plain, seen in zip(*read, strict=True):
        for span in seen["spans"]:
            if span[0] == "latent" and len(span) == 3:
                said = span.pop()
                assert len(said) == span[1] and all(len(step) == 5 for step in said)
                assert all(p == round(p, 3) for step in said for _, p in step)
                looked += 1
                assert seen["prompt_index"] < 3
        assert plain == seen
    assert looked == sum(row["thoughts"] for row in read[0] if row["prompt_index"] < 3) > 3


def test_a_negative_lens_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--lens is -1; expected 0 or more"):
        evaluate_stage(EvalConfig(model="nowhere", run_dir=str(tmp_path), lens=-1))


@pytest.mark.parametrize("cut", [6, 9, 12])
def test_skipped_probability_equals_the_naive_loop(model, cut):
    ids, sentence = IDS[:cut], " w3 w4\n w5"
    wanted = WORDS(sentence)["input_ids"]
    assert len(wanted) == 4
    tag = max(k for k, token in enumerate(ids) if token != SLOT)
    found = skipped_probability(model, ids, sentence)
    with torch.no_grad():
        before = naive.log_probs_of(model, ids[:tag] + wanted)[-4:].mean()
        after = naive.log_probs_of(model, ids + wanted)[-4:].mean()
    assert found.tokens == 4
    assert found.before == pytest.approx(float(before), abs=1e-5)
    assert found.after == pytest.approx(float(after), abs=1e-5)
    assert abs(found.before - found.after) > 1e-4


def test_a_tag_of_many_tokens_is_left_out_whole(model):
    tag = WORDS("<implicit_thought>\n2</implicit_thought>")["input_ids"]
    assert len(tag) == 4
    got = skipped_probability(model, [1, 8, *tag, SLOT, SLOT], " w3")
    with torch.no_grad():
        wanted = naive.log_probs_of(model, [1, 8, *WORDS(" w3")["input_ids"]])[-1]
    assert got.before == pytest.approx(float(wanted), abs=1e-5)


def test_errors_say_what_to_do(model):
    with pytest.raises(LatentError, match="no latent steps; attach them"):
        inspect_latents(random_llama(WORDS), IDS)
    with pytest.raises(LatentError, match=r"the text: position 2 .*Remove"):
        inspect_latents(model, [1, 8, SLOT])
    with pytest.raises(LatentError, match="position 4"):
        inspect_latents(model, [1, 8, ONE, SLOT, SLOT])
    for ids in (IDS, [1, 8, TWO], [1, 8, SLOT], [], [SLOT], IDS[:6]):
        with pytest.raises(LatentError, match="end with a tag and its latent slots"):
            skipped_probability(model, ids, "" if ids == IDS[:6] else " w1")


@pytest.fixture(scope="module")
def byte_model():
    """A model whose tokenizer merges ` <` and `><`."""
    tokenizer = byte_tokenizer(words_apart=True)
    model = random_llama(tokenizer, pad_token_id=None, bos_token_id=None)
    return litereason.attach(model, tokenizer, litereason.LatentConfig(projector="pause"))


def test_what_stands_before_a_tag_that_was_merged_with_another(byte_model):
    tags = byte_model.latent_tags
    one, two = "<implicit_thought>1</implicit_thought>", "<implicit_thought>2</implicit_thought>"
    ids = tags.expand(tags.tokenizer(f"a {one}{two}")["input_ids"])
    before = ids[: ids.index(tags.latent_token_id) + 1]  # up to the first thought's slot
    assert tags.tokenizer.convert_ids_to_tokens(before[-2]) == "><"
    with torch.no_grad():
        wanted = naive.log_probs_of(byte_model, [*before, *tags.tokenizer("é")["input_ids"]])[-1]
    assert skipped_probability(byte_model, ids, "é").before == pytest.approx(
        float(wanted), abs=1e-5
    )


def test_a_sentence_keeps_the_space_before_it(byte_model):
    tokenizer, tag = byte_model.latent_tags.tokenizer, "<implicit_thought>1</implicit_thought>"
    ids = byte_model.latent_tags.expand(tokenizer(f"So. {tag}")["input_ids"])
    told = tokenizer("So. a")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(told[-1]) == "Ġa"
    with torch.no_grad():
        wanted = naive.log_probs_of(byte_model, told)[-1]
    assert skipped_probability(byte_model, ids, "a").before == pytest.approx(
        float(wanted), abs=1e-5
    )


def test_skipped_probability_of_a_plain_model():
    with pytest.raises(LatentError, match="no latent steps"):
        skipped_probability(random_llama(WORDS), IDS[:6], " w1")


def test_skipped_probability_with_nothing_before_the_tag(model):
    with pytest.raises(LiteReasonError):
        skipped_probability(model, IDS[3:6], " w1")


def test_more_tokens_to_name_than_there_are(model):
    assert len(inspect_latents(model, IDS, top=10_000)[0].says) == len(WORDS) - 1


# --- the command ---

PROMPT = " Ann owned the"
PREFIX = "<implicit_thought>3</implicit_thought>"


@pytest.fixture(scope="module")
def latent_base(tiny_base, tmp_path_factory) -> Path:
    model, tokenizer = checkpoints.load(tiny_base)
    config = litereason.LatentConfig(projector="rms", depth=1)
    model = litereason.attach(model, tokenizer, config)
    return checkpoints.save(model, tmp_path_factory.mktemp("latent") / "model", tokenizer)


def run(*words: object) -> int:
    return main(["inspect", *(str(word) for word in words)])


def fails(capsys, *words: object) -> str:
    assert run(*words) == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_prompt_with_a_prefix(latent_base, tmp_path, capsys):
    out = tmp_path / "seen.json"
    sentence = " died."
    words = ["--model", latent_base, "--prompt", PROMPT, "--top", 2, "--out", out]
    assert run(*words, "--prefix", "\n" + PREFIX, "--skipped", sentence) == 0
    printed = capsys.readouterr().out
    (seen,) = json.loads(out.read_text())
    assert str(out) in printed and f"stands for: {sentence}" in printed
    model, tokenizer = litereason.load(latent_base)
    head = litereason.sampling.encode(tokenizer, PROMPT, model.latent_tags)
    ids = model.latent_tags.expand(head + tokenizer("\n" + PREFIX)["input_ids"])
    steps = inspect_latents(model, ids, 2)
    assert [s["position"] for s in seen["steps"]] == [s.position for s in steps]
    assert len(steps) == 3 and ids[-3:] == [model.latent_tags.latent_token_id] * 3
    for got, step in zip(seen["steps"], steps, strict=True):
        assert [tuple(pair) for pair in got["says"]] == list(step.says)
        assert [tuple(pair) for pair in got["near"]] == list(step.near)
        assert got["norm"] == step.norm
        assert f"{step.thought + 1}.{step.step + 1}" in printed
    skipped = skipped_probability(model, ids, sentence)
    assert seen["skipped"] == vars(skipped) and seen["sentence"] == sentence
    figures = f"{skipped.before:.3f} in place of the tag, {skipped.after:.3f}"
    assert figures in " ".join(printed.split())


def test_what_the_model_writes_itself(latent_base, tmp_path, capsys):
    """Random weights write no tag at once; the message says how to begin."""
    words = ["--model", latent_base, "--prompt", PROMPT]
    assert "--prefix '<implicit_thought>3" in fails(capsys, *words, "--max_new_tokens", 1)
    message = fails(capsys, *words, "--max_new_tokens", 1, "--prefix", " died.")
    assert "took no latent step in 1 positions" in message
    assert run(*words, "--max_new_tokens", 300, "--out", tmp_path / "x.json") == 0
    (seen,) = files.read_json(tmp_path / "x.json")
    assert (
        seen["steps"] and seen["skipped"] is None and seen["text"].count(DOT) == len(seen["steps"])
    )


def test_options_that_do_not_go_together(capsys, latent_base, tmp_path):
    model = ["--model", latent_base]
    assert "either --prompt or --traces" in fails(capsys, *model)
    assert "either --prompt or --traces" in fails(capsys, *model, "--prompt", "x", "--traces", "y")
    words = ["--traces", tmp_path / "t.jsonl"]
    assert "--skipped goes with --prompt" in fails(capsys, *model, *words, "--skipped", "x")
    assert "no such file" in fails(capsys, *model, *words)
    words = [*model, "--prompt", PROMPT]
    assert "at least 1" in fails(capsys, *words, "--top", 0)
    assert "at least 1" in fails(capsys, *words, "--steps", 0)
    assert "at least 1" in fails(capsys, *words, "--rows", 0)
    words += ["--prefix", f"\n{PREFIX} died.", "--skipped", " again."]
    assert "ends with the tag that stands for it" in fails(capsys, *words)
    message = fails(capsys, *model, "--prompt", " died.<|latent|>")
    assert "Remove '<|latent|>' from the text" in message


def write_traces(path: Path, by_item: bool) -> list[dict[str, str]]:
    """Traces of 6 items, by the item's id or with its prompt."""
    from litereason.tasks.stories import StoriesTask

    task = StoriesTask()
    rows = [
        {"item": example.id} if by_item else {"prompt": task.prompt(example)}
        for example in task.examples("train", 6)
    ]
    for row, example in zip(rows, task.examples("train", 6), strict=True):
        row["completion"] = task.demonstration(example)
    files.write_jsonl(path, rows)
    return rows


def test_traces_with_a_sentence_skipped(latent_base, tmp_path, capsys):
    pytest.importorskip("pysbd")
    traces, out = tmp_path / "traces.jsonl", tmp_path / "seen.json"
    rows = write_traces(traces, by_item=False)
    words = ["--model", latent_base, "--traces", traces, "--rows", 2, "--out", out]
    assert run(*words, "--steps", 2) == 0
    seen = files.read_json(out)
    assert len(seen) == 2 and capsys.readouterr().out.count("stands for:") == 2
    for one, row in zip(seen, rows, strict=False):
        before, _, after = one["text"].rpartition("<implicit_thought>2</implicit_thought>")
        assert after == DOT * 2 and row["completion"].startswith(before + one["sentence"])
        assert [(s["thought"], s["step"]) for s in one["steps"]] == [(0, 0), (0, 1)]
        assert one["skipped"]["tokens"] > 0 and one["skipped"]["after"] < 0
    again = tmp_path / "again.json"
    assert run(*words[:-1], again, "--steps", 2) == 0
    assert files.read_json(again) == seen
    files.write_jsonl(traces, [{"prompt": PROMPT, "completion": "\n\\boxed{Yes}"}])
    assert "no trace has a sentence" in fails(capsys, *words)


def test_traces_by_item(latent_base, tmp_path):
    """The first traces of a file, whichever items they are of."""
    pytest.importorskip("pysbd")
    write_traces(tmp_path / "traces.jsonl", by_item=True)
    assert run("--model", latent_base, "--traces", tmp_path / "traces.jsonl", "--rows", 2) == 0


def test_an_empty_prompt(latent_base, capsys):
    assert "--prompt" in fails(capsys, "--model", latent_base, "--prompt", "")
