"""Tasks: rewards, cleaned text, prompts; and the real stories where they are."""

import json

import pytest

from litereason.errors import DataError
from litereason.tasks import get_task
from litereason.tasks.base import Example
from litereason.tasks.flawed_fictions import FlawedFictionsTask, clean
from litereason.tasks.plot_holes import boxed
from litereason.tasks.stories import StoriesTask


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{Yes}", "Yes"),
        (r"\boxed{Yes}, no wait: \boxed{No}", "No"),
        (r"\boxed{ no }", "no"),
        (r"It says \boxed{Yes or No}? I say \boxed{}", ""),
        ("Yes", None),
        (r"\boxed{Yes", None),
    ],
)
def test_only_the_last_box_counts(text, answer):
    assert boxed(text) == answer


def test_reward_compares_without_case():
    task, example = StoriesTask(), Example("a", "One.", "Yes")
    assert task.reward(example, r"\boxed{yes}") == 1.0
    assert task.reward(example, r"\boxed{No} then \boxed{maybe}") == 0.0
    assert task.reward(example, "") == 0.0


def test_the_instructions_are_no_tags():
    """The prompt shows the tag's form with a word in it; as a tag it would open a thought."""
    import re

    for task in (StoriesTask(), FlawedFictionsTask()):
        for mode in ("plain", "latent", "direct"):
            prompt = task.prompt(Example("a", "One.", "Yes"), mode)
            assert not re.search(r"<implicit_thought>\s*\d", prompt)
            assert ("implicit_thought" in prompt) == (mode == "latent")


def test_cleaning_takes_the_dashes_and_the_markup():
    raw = "<p>One &amp; two.</p><p>Then <i>three</i><br/>four.</p> <p>-------</p>"
    assert clean(raw) == "One & two.\nThen three\nfour."
    assert clean("The end. ———") == "The end."
    assert clean("He said - nothing - twice.") == "He said - nothing - twice."


def test_flawed_fictions_reads_a_directory(tmp_path):
    rows = [
        {"id": "a", "story": "One.", "answer": "Yes", "words": 1},
        {"example_id": "b", "story": "<p>Two.</p>-------", "cont_error": False},
    ]
    (tmp_path / "val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = get_task("flawed_fictions", {"data": str(tmp_path)})
    first, second = task.examples("val")
    assert (first.id, first.answer, first.fields["words"]) == ("a", "Yes", 1)
    assert (second.id, second.text, second.answer) == ("b", "Two.", "No")
    assert task.examples("val", 1) == [first]
    with pytest.raises(DataError, match=r"no such file: .*test\.jsonl"):
        task.examples("test")


def test_raw_text_keeps_what_was_found(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"story": "A.-------", "answer": "Yes"}\n{"story": "B.", "answer": "No"}'
    )
    task = FlawedFictionsTask(str(tmp_path / "x.jsonl"), raw=True)
    assert [example.text for example in task.examples("val")] == ["A.-------", "B."]


@pytest.mark.shared
def test_the_real_stories(shared_data):
    task = FlawedFictionsTask(str(shared_data / "flawed_fictions"))
    try:
        examples = task.examples("val")
    except DataError as error:
        pytest.skip(f"the real stories cannot be read here: {error}")
    assert len(examples) == 42 and {e.answer for e in examples} == {"Yes", "No"}
    assert not any(e.text.rstrip().endswith("---") or "<p>" in e.text for e in examples)


@pytest.mark.shared
def test_real_traces_become_rows(shared_data):
    """Sentences of a real 7B model's traces, thoughts put in and read back."""
    import random

    from litereason import files
    from litereason.traces import replaceable, split_sentences

    path = shared_data / "flawed_fictions" / "val_traces.jsonl"
    for trace in random.Random(0).sample(files.read_jsonl(path), 30):
        text = " ".join([*trace["steps"], trace["answer"]])
        sentences = split_sentences(text)
        assert "".join(sentences) == text
        assert len(sentences) > 3
        assert all("\\boxed" not in sentences[i] for i in replaceable(sentences))
