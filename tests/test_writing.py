"""Chapters from plans: rules of length and end mark, rounds, resuming; from plans to strengths."""

import pytest

from conftest import random_llama, word_tokenizer
from litereason import bradley_terry, files, sampling
from litereason.checkpoints import save
from litereason.cli import main
from litereason.generation import Completion, Span
from litereason.run_dir import only_run
from litereason.tasks.next_chapter import NextChapterTask
from litereason.text_metrics import text_metrics
from litereason.writing import END_MARK, Draft, read_plans

GOLD = " w1" * 8


def pair(number: int) -> dict:
    fields = ("plot_summary", "summary_so_far", "previous_chapter", "synopsis", "header")
    row = {name: f" w{number} w{k}" for k, name in enumerate(fields, 10)}
    row |= {"id": f"pair-{number}", "book": "Alpha", "chapter": number, "words": 8}
    row |= {"characters": [f" w{k}" for k in (16, 17, 18)], "split": "test"}
    return row | {"next_chapter": GOLD}


def plan_lines(items: range) -> list[dict]:
    return [{"id": f"pair-{k}", "plan": f" w{k} w{k + 5}"} for k in items]


@pytest.fixture
def base(tmp_path):
    """A random model whose tokenizer has the end mark as a word."""
    tokenizer = word_tokenizer()
    tokenizer.add_tokens([END_MARK, "abcdef"])  # stop strings are looked for after "abcdef"
    return save(random_llama(tokenizer), tmp_path / "model", tokenizer)


@pytest.fixture
def write(base, tmp_path):
    """Runs `litereason write` over three pairs; the directory of an arm is `tmp_path/chapters/ARM`."""
    data = files.write_jsonl(tmp_path / "pairs.jsonl", [pair(k) for k in range(3)])
    plans = files.write_jsonl(tmp_path / "plans.jsonl", plan_lines(range(3)))

    def run(*words: object, arm: str = "arm") -> int:
        given = ["--model", base, "--task_options.data", data, "--plans", plans]
        given += ["--run_dir", tmp_path, "--name", arm, "--max_new_tokens", 6, "--temperature", 1]
        return main([str(word) for word in ["write", *given, "--top_p", 1, "--top_k", 0, *words]])

    return run


def draft(*written: tuple[str, bool]) -> Draft:
    """A draft after rounds that wrote (text, whether cut for length)."""
    made = Draft("pair-0", 0, "plan", pair(0))
    for text, cut in written:
        made.write_on(text, cut)
    return made


def test_a_chapter_is_done_by_mark_and_length():
    assert not draft((" w2" * 8, True)).done  # no mark
    assert draft((" w2" * 4 + END_MARK, False)).done  # half the true chapter's 8 words
    assert not draft((" w2" * 3 + END_MARK, False)).done
    assert not draft((" w2" * 12, True)).done
    assert draft((" w2" * 13, True)).done  # too long to be saved
    assert draft((" w2" * 6 + f"{END_MARK} w3 w3", False)).body == "w2 w2 w2 w2 w2 w2"


def test_a_chapter_goes_on_from_where_it_stands():
    cut = draft((" w2 w", True), ("3 w4" + END_MARK, True))
    assert cut.body == "w2 w3 w4" and cut.ended
    stopped = draft((" w2.", False), ("w3", True))
    assert stopped.body == "w2.\n\nw3" and not stopped.ended
    early = draft((f" w2 {END_MARK} w9", True), ("w3" + END_MARK, True))
    assert early.body == "w2\n\nw3" and early.text.count(END_MARK) == 1 and early.rounds == 2


def test_rounds_write_on_what_is_not_done(write, tmp_path, monkeypatch):
    """Of three chapters one is done at once, one in the second round, one never."""
    script = {0: [" w2" * 6 + END_MARK], 1: [" w3" * 5, " w4" + END_MARK], 2: [" w5"] * 3}
    asked: list[list[str]] = []

    def scripted(model, tokenizer, prompts, config, stop, arguments):
        assert stop == END_MARK
        texts = [tokenizer.decode(ids) for ids in prompts]
        asked.append(texts)
        made = [script[next(k for k in range(3) if f" w{k} w14" in t)].pop(0) for t in texts]
        return [Completion((1,), (Span("discrete", (1,), text),), True) for text in made]

    monkeypatch.setattr(sampling, "generate_batch", scripted)
    assert write("--rounds", 3) == 0
    rows = files.read_jsonl(tmp_path / "chapters" / "arm" / "chapters.jsonl")
    assert [(row["ended"], row["length_ok"], row["rounds"]) for row in rows] == [
        (True, True, 1), (True, True, 2), (False, False, 3),
    ]  # fmt: skip
    assert rows[1]["text"] == "w3 w3 w3 w3 w3 w4"
    assert [len(texts) for texts in asked] == [3, 2, 1]
    continued = next(text for text in asked[1] if " w1 w14" in text)
    first = next(text for text in asked[0] if " w1 w14" in text)
    assert continued == first + " w3" * 5
    found = files.read_json(tmp_path / "chapters" / "arm" / "summary.json")
    assert found["ended"]["mean"] == found["length_ok"]["mean"] == pytest.approx(2 / 3)


def test_the_prompt_has_the_story_then_the_plan_then_the_length(write, tmp_path, monkeypatch):
    from litereason import writing

    seen: list[str] = []
    encode = writing.encode
    monkeypatch.setattr(
        writing, "encode", lambda t, text, tags: seen.append(text) or encode(t, text)
    )
    assert write("--rounds", 1, "--words", 77) == 0
    told = [f" w1 w{k}" for k in (10, 11)] + [f" w{k}" for k in (16, 17, 18)]
    told += [f"w1 w{k}" for k in (12, 13, 14)] + ["w1 w6", "at least 77 words", END_MARK]
    places = [seen[1].index(text.strip()) for text in told]
    assert places == sorted(places)


def test_figures_are_beside_what_the_writer_was_shown():
    from litereason.writing import chapter_record

    task = NextChapterTask("pairs.jsonl", previous_words=3)
    fields = pair(0) | {"previous_chapter": "one two three four five six"}
    made = Draft("pair-0", 0, "a plan", fields, text="one two three. four five six")
    assert chapter_record(task, made)["metrics"]["rouge_l_previous_chapter"] == 2 * 3 / 9
    assert chapter_record(task, made)["metrics"]["unseen_trigrams"] == 3 / 4


def test_generation_stops_at_the_mark(base):
    from litereason.checkpoints import load

    model, tokenizer = load(base)
    how = sampling.SamplingConfig(max_new_tokens=12, temperature=0)
    prompts = [tokenizer(" w1 w2")["input_ids"], tokenizer(" w7")["input_ids"]]
    whole = sampling.generate_batch(model, tokenizer, prompts, how)
    stop = whole[0].text[4:9]
    made = sampling.generate_batch(model, tokenizer, prompts, how, stop)
    for free, stopped in zip(whole, made, strict=True):
        texts = [
            tokenizer.decode(free.ids[: k + 1], skip_special_tokens=True)
            for k in range(len(free.ids))
        ]
        assert stopped.text == next((text for text in texts if stop in text), texts[-1])
    assert 0 < len(made[0].ids) < len(whole[0].ids)


def test_plans_come_from_records_or_lines(tmp_path):
    spans = [["discrete", "So <implicit"], ["tag", "_thought>2</implicit_thought>"], ["latent", 2]]
    records = [
        {"item": "a", "sample": 0, "spans": [*spans, ["discrete", " In summary: she goes."]]},
        {"item": "a", "sample": 1, "spans": spans},
    ]
    path = files.write_jsonl(tmp_path / "records.jsonl", records)
    assert read_plans(path) == {("a", 0): "she goes.", ("a", 1): None}
    assert read_plans(path, unmarked=True)["a", 1] == "So"
    lines = [{"id": "a", "plan": "x"}, {"id": "b", "plan": " "}, {"id": "a", "plan": "y"}]
    path = files.write_jsonl(tmp_path / "plans.jsonl", lines)
    assert read_plans(path) == {("a", 0): "x", ("b", 0): None, ("a", 1): "y"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": 3, "plan": "x"}], "line 1: expected a record of `litereason eval`"),
        ([{"item": "pair-0", "sample": "0", "spans": []}], "line 1: expected a record"),
        (
            [{"item": "pair-0", "sample": 0, "spans": [["discrete", 3]]}],
            "line 1: expected a record",
        ),
        ([{"item": "pair-0", "sample": 0, "spans": []}] * 2, "line 2: a second sample 0"),
        ([{"id": "pair-9", "plan": "x"}], "1 items are not in"),
        ([{"id": "pair-0", "plan": ""}], "none of 1 samples holds a plan"),
    ],
)
def test_plans_that_are_none_are_named_before_a_model_is_loaded(
    write, tmp_path, capsys, monkeypatch, lines, message
):
    monkeypatch.setattr("litereason.checkpoints.load", lambda *args: pytest.fail("model loaded"))
    files.write_jsonl(tmp_path / "plans.jsonl", lines)
    assert write() == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "chapters").exists()


def test_rounds_that_exceed_the_context_are_refused(write, capsys):
    assert write("--rounds", 50) == 2
    assert "and 300 new ones exceed the model's context of 256" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_tokenizer_without_stop_strings_is_named_before_anything_is_written(
    write, tmp_path, capsys, monkeypatch
):
    tokenizer = word_tokenizer()  # has no "abcdef", which transformers puts before each token
    other = save(random_llama(tokenizer), tmp_path / "other", tokenizer)
    monkeypatch.setattr(sampling, "generate_batch", lambda *args: pytest.fail("it generates"))
    assert write("--model", other) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "stop strings do not work with its tokenizer" in told and "another model" in told


def test_an_interrupted_run_goes_on_and_ends_the_same(write, tmp_path, monkeypatch):
    generate, calls = sampling.generate_batch, []

    def counted(*args):
        if calls.append(args) or len(calls) == fails_at:
            raise KeyboardInterrupt
        return generate(*args)

    monkeypatch.setattr(sampling, "generate_batch", counted)
    fails_at = 0
    assert write("--batch_size", 2, arm="whole") == 0
    needed = len(calls)
    calls.clear()
    fails_at = 4  # the second batch of the second round
    assert write("--batch_size", 2, arm="killed") == 130
    killed = tmp_path / "chapters" / "killed"
    assert not (killed / "chapters.jsonl").exists()
    calls.clear()
    fails_at = 0
    assert write("--batch_size", 2, arm="killed") == 0
    assert len(calls) == needed - 3  # what was written is not written again
    whole = tmp_path / "chapters" / "whole" / "chapters.jsonl"
    assert (killed / "chapters.jsonl").read_bytes() == whole.read_bytes()
    assert not list(killed.glob("*.partial.jsonl"))


def test_other_plans_under_the_same_name_are_refused(write, tmp_path, capsys):
    assert write() == write() == 0
    assert "already complete" in capsys.readouterr().err
    files.write_jsonl(tmp_path / "plans.jsonl", plan_lines(range(2)))
    for _ in ("finished", "on its way"):
        assert write() == 2
        assert "begun with another data" in " ".join(capsys.readouterr().err.split())
        (tmp_path / "chapters" / "arm" / "summary.json").unlink(missing_ok=True)


def test_two_processes_do_not_write_one_arm(write, tmp_path, capsys):
    with only_run(tmp_path / "chapters" / "arm"):
        assert write() == 2
    assert "another process writes to" in capsys.readouterr().err


def test_plans_to_strengths(write, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bradley_terry, "RESAMPLES", 20)
    for arm, seed in (("litereason", 0), ("rl", 1)):
        assert write("--seed", seed, arm=arm) == 0
    out = capsys.readouterr().out
    assert "true chapters" in out and "rouge_l_gold" in out
    directory = tmp_path / "chapters" / "rl"
    rows = files.read_jsonl(directory / "chapters.jsonl")
    found = files.read_json(directory / "summary.json")
    assert (found["items"], found["chapters"], found["no_plan"]) == (3, 3, 0)
    told = pair(0) | {"characters": " w16 w17 w18", "plan": rows[0]["plan"]}
    parts = {name.removeprefix("rouge_l_") for name in rows[0]["gold"] if "rouge_l" in name}
    wanted = text_metrics(rows[0]["text"], {name: told[name] for name in parts}, GOLD)
    assert rows[0]["metrics"] == wanted and len(parts) == 6
    mean = sum(row["metrics"]["words"] for row in rows) / 3
    assert found["metrics"]["words"]["mean"] == pytest.approx(mean)
    assert found["gold"]["words"]["mean"] == 8 and "rouge_l_gold" not in found["gold"]
    assert main(["prefer", "--run_dir", str(tmp_path)]) == 0
    shown = files.read_jsonl(tmp_path / "preference" / "comparisons.jsonl")
    key = {row["id"]: row for row in files.read_jsonl(tmp_path / "preference" / "key.jsonl")}
    assert len(shown) == 3
    said = [{"id": r["id"], "winner": "a" if key[r["id"]]["a"] == "rl" else "b"} for r in shown]
    told = files.write_jsonl(tmp_path / "said.jsonl", said)
    assert main(["prefer", "--run_dir", str(tmp_path), "--judgements", str(told)]) == 0
    strengths = files.read_json(tmp_path / "preference" / "strengths.json")
    assert [row["arm"] for row in strengths["arms"]] == ["rl", "litereason"]
