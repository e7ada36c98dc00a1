"""Plot holes: answers and quotes parsed, CEEval by hand, gold sentences, cleaned text, family splits."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import files
from litereason.errors import ConfigError, DataError
from litereason.tasks import get_task
from litereason.tasks.base import Example, checked_metrics
from litereason.tasks.flawed_fictions import FlawedFictionsTask, clean, gold_lines
from litereason.tasks.plot_holes import ceeval, holding, plain, quoted_lines, verdict
from litereason.tasks.stories import StoriesTask
from litereason.tasks.wording import boxed


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{Yes}", "Yes"),
        (r"\boxed{Yes}, no wait: \boxed{No}", "No"),
        (r"\boxed{ no }", "no"),
        (r"It says \boxed{Yes or No}? I say \boxed{}", ""),
        ("Yes", None),
        (r"\boxed{Yes", None),
        (r"\boxed{Yes} but \boxed{No", "Yes"),
        (r"\boxed{\boxed{Yes}}", "Yes"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\text{ \textbf{Yes}}}", "Yes"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\boxed {Yes}", "Yes"),
        ("\\boxed{<implicit_thought>2</implicit_thought>Yes}", "Yes"),
        (
            "\\boxed{<implicit_thought>number</implicit_thought>}",
            "<implicit_thought>number</implicit_thought>",
        ),
    ],
)
def test_only_the_last_closed_box_counts(text, answer):
    assert boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{ Yes. }", "Yes"),
        (r"\boxed{\text{Yes}}", "Yes"),
        (r"\boxed{yes}", "Yes"),
        (r"\boxed{**NO**}", "No"),
        (r"\boxed{Yes or No}", None),
        (r"\boxed{Yesterday}", None),
        (r"\boxed{}", None),
        ("", None),
        # a quote that holds a box is no answer, wherever it stands
        (r"\boxed{Yes} <error_lines>It said \boxed{No}.</error_lines>", "Yes"),
        (r"<contradicted_lines>\boxed{No}</contradicted_lines>", None),
        (r"<error_lines>never closed \boxed{No}", "No"),
        (r"<error_lines><error_lines>x</error_lines> \boxed{No} </error_lines>", "No"),
    ],
)
def test_the_verdict_is_yes_no_or_none(text, answer):
    assert verdict(text) == answer
    for label in ("Yes", "No"):
        assert StoriesTask().reward(Example("a", "One.", label), text) == float(answer == label)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("<error_lines>One.</error_lines>", ["One."]),
        ("<error_lines>\n- One.\n* Two.\n\n</error_lines>", ["One.", "Two."]),
        ("<error_lines>One.</error_lines> and: <error_lines>Two.</error_lines>", ["One.", "Two."]),
        ("<think><error_lines>One.</error_lines></think><error_lines>Two.</error_lines>", ["Two."]),
        ("<error_lines>One.</error_lines></think><error_lines>Two.</error_lines>", ["Two."]),
        ("<error_lines>One.</error_lines><think>or <error_lines>Two.</error_lines>", ["One."]),
        ("<error_lines>One. <error_lines>Two.</error_lines>", ["Two."]),
        ("<error_lines>One.", []),
        ("One.</error_lines>", []),
        ("<error_lines></error_lines>", []),
        ("<contradicted_lines>One.</contradicted_lines>", []),
        ("<error_lines>O<implicit_thought>3</implicit_thought>ne.</error_lines>", ["One."]),
        ("<error_lines>A<contradicted_lines>B</contradicted_lines></error_lines>", ["A", "B"]),
    ],
)
def test_quotes_are_the_lines_of_closed_blocks(text, lines):
    assert quoted_lines(text, "error_lines") == lines


def test_a_quote_counts_for_every_sentence_that_holds_it():
    told = ["The King, they said, was old.", "A young king ruled!", "Nobody came."]
    assert holding(told, ["king"]) == {"the king they said was old", "a young king ruled"}
    assert holding(told, ["THE KING -- they said"]) == {"the king they said was old"}
    assert holding(told, ["...", "", "  "]) == set()
    assert holding(told, ["The king was old"]) == set()


E, C, X = "the king was old", "a young king ruled", "nobody came"


@pytest.mark.parametrize(
    ("label", "answer", "gold", "predicted", "figures"),
    [
        # (ceeval_full, ceeval_pos, strict), by hand
        ("No", "No", ([], []), ([], []), (1, None, 1)),
        ("No", "No", ([], []), ([E], [C]), (1, None, 1)),
        ("No", "Yes", ([], []), ([E], [C]), (0, None, 0)),
        ("No", None, ([], []), ([], []), (0, None, 0)),
        ("Yes", "No", ([E], [C]), ([E], [C]), (0, 0, 0)),
        ("Yes", "Yes", ([E], [C]), ([], []), (0, 0, 0)),
        ("Yes", "Yes", ([E], [C]), ([E], []), (0, 0, 0)),
        ("Yes", "Yes", ([E], [C]), ([C], [E]), (0, 0, 0)),
        ("Yes", "Yes", ([E], [C]), ([E], [C]), (1, 1, 1)),
        ("Yes", "Yes", ([E], [C]), ([E, X], [C]), (1, 1, 0)),
        ("Yes", "Yes", ([E], [C]), ([E], [C, X]), (1, 1, 0)),
        ("Yes", "Yes", ([E, X], [C]), ([X], [C]), (1, 1, 1)),
        ("Yes", "Yes", (None, None), ([E], [C]), (None, None, None)),
        ("Yes", "Yes", ([E], []), ([E], [C]), (None, None, None)),
        ("No", "No", (None, None), ([], []), (None, None, None)),
    ],
)
def test_ceeval_by_hand(label, answer, gold, predicted, figures):
    found = ceeval(label, answer, gold, predicted)
    assert (found["ceeval_full"], found["ceeval_pos"], found["strict"]) == figures


def test_a_quote_that_the_story_does_not_hold_is_not_strict():
    task = get_task("flawed_fictions", {"data": "unused"})
    story = "Old Bero lost his left hand in the war.\nBero clapped both hands."
    fields = {"error_lines": ["Bero clapped both hands."]}
    fields["contradicted_lines"] = ["Old Bero lost his left hand in the war."]
    example = Example("bero", story, "Yes", fields)

    def judged(*made_up):
        told = "\n".join(["Bero clapped both hands", *made_up])
        quotes = f"<error_lines>{told}</error_lines><contradicted_lines>lost his left hand"
        found = task.metrics(example, quotes + "</contradicted_lines>\\boxed{Yes}")
        return found["ceeval_full"], found["ceeval_pos"], found["strict"]

    assert judged() == judged("...") == (1, 1, 1)
    assert judged("The moon fell into the sea.") == (1, 1, 0)


sets = st.sets(st.sampled_from("abc"))


@given(sets, sets, sets, sets)
def test_strict_is_never_above_full(error, contradicted, says_error, says_contradicted):
    found = ceeval("Yes", "Yes", [error, contradicted], [says_error, says_contradicted])
    if found["strict"] is None:
        assert not error or not contradicted
    else:
        assert found["strict"] <= found["ceeval_full"] == found["ceeval_pos"]


# An invented story in the markup of the data set.
STORY = (
    "<p>Old Bero lost his left hand in the war. Since then, he lived alone&nbsp;by the lake.</p>"
    "<p>Mr. Finn came on <i>Sunday</i>.<br/>Bero clapped both hands. They ate.</p>-------"
)
ROW = {"example_id": "bero", "story": STORY, "cont_error": 1.0}
GOLD = {
    "cont_error_lines": "<ul><li>Bero clapped both hands.</li></ul>",
    "contradicted_lines": "Old Bero lost his left hand in the war.",
}
CLEAR = {"example_id": "clear", "story": "<p>It rained.</p>", "cont_error": 0.0}


def flawed(tmp_path, *rows, **options):
    path = files.write_jsonl(tmp_path / "stories.jsonl", rows)
    return FlawedFictionsTask(str(path), **options)


def answer_of(error, contradicted, box="Yes"):
    return (
        f"Hm. <error_lines>{error}</error_lines> "
        f"<contradicted_lines>{contradicted}</contradicted_lines> \\boxed{{{box}}}"
    )


def test_flawed_fictions_judges_what_is_quoted(tmp_path):
    task = flawed(
        tmp_path, ROW | GOLD, CLEAR | {"cont_error_lines": "", "contradicted_lines": None}
    )
    flaw, clear = task.examples("test")
    assert flaw.fields["error_lines"] == ["Bero clapped both hands."]
    assert clear.fields["error_lines"] == clear.fields["contradicted_lines"] == []
    assert "cont_error_lines" not in flaw.fields
    assert "<error_lines>" in task.prompt(flaw) and "<contradicted_lines>" in task.prompt(flaw)
    assert "_lines>" not in task.prompt(flaw, "direct")

    def figures(example, *quotes, **box):
        found = checked_metrics(task, example, answer_of(*quotes, **box))
        return [found[name] for name in ("ceeval_full", "ceeval_pos", "strict")]

    assert figures(flaw, "- Bero clapped BOTH hands", "lost his left hand") == [1, 1, 1]
    two = "Bero clapped both hands. They ate."  # two sentences on a line: one of them is not gold
    assert figures(flaw, two, "Old Bero lost his left hand in the war.") == [1, 1, 0]
    assert figures(flaw, "1. Bero clapped both hands.", "(1) lost his left hand") == [1, 1, 1]
    assert figures(flaw, "<li>Bero clapped both hands.</li>", "2) left hand") == [1, 1, 1]
    assert figures(flaw, "They ate.", "lost his left hand") == [0, 0, 0]
    assert figures(flaw, "Bero", "lost his left hand") == [1, 1, 0]
    assert figures(flaw, "Bero clapped both hands", "left hand", box="No") == [0, 0, 0]
    assert figures(clear, "", "", box="No") == [1, None, 1]
    assert figures(clear, "It rained.", "It rained.") == [0, None, 0]


def test_data_without_gold_sentences_has_no_ceeval(tmp_path):
    task = flawed(tmp_path, ROW, CLEAR)
    for example in task.examples("test"):
        found = checked_metrics(task, example, answer_of("They ate.", "It rained."))
        assert found == {"ceeval_full": None, "ceeval_pos": None, "strict": None}


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (["One.", "Two."], ["One.", "Two."]),
        ('["One.", "Two."]', ["One.", "Two."]),
        ("One.\n\nTwo.", ["One.", "Two."]),
        ("One. Two.", ["One.", "Two."]),
        ("<li>One.</li><li> Two.</li>", ["One.", "Two."]),
        ("[One] is a line.", ["[One] is a line."]),
        (None, []),
        ("", []),
        ([], []),
    ],
)
def test_gold_sentences_come_in_many_forms(value, lines):
    assert gold_lines("x", value) == lines


def test_gold_sentences_that_are_none_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"line 1: gold sentences are \[3\]; expected a list of text"
    ):
        flawed(tmp_path, ROW | GOLD | {"cont_error_lines": [3]}, CLEAR).examples("test")


@pytest.mark.parametrize("answer", [2, 0.5, [], "Maybe", float("nan")])
@pytest.mark.parametrize("field", ["answer", "cont_error"])
def test_a_label_of_another_kind_is_named(tmp_path, field, answer):
    with pytest.raises(DataError, match=rf"line 1: '{field}' is .*; expected Yes or No, or 1 or 0"):
        flawed(tmp_path, ROW | {field: answer}, CLEAR).examples("test")


def test_a_row_without_a_label_says_what_it_has(tmp_path):
    row = {"story": STORY, "label": "Yes", "cont_error": None}
    with pytest.raises(DataError) as caught:
        flawed(tmp_path, row).examples("test")
    assert "line 1: neither 'answer' (Yes or No) nor 'cont_error' (1 or 0) is given" in str(
        caught.value
    )
    assert "the fields are ['cont_error', 'label', 'story']" in str(caught.value)


def test_generated_stories_judge_numbers_and_sentences():
    task = StoriesTask(quote=True)
    examples = task.examples("test", 20)
    flaw = next(e for e in examples if e.answer == "Yes")
    clear = next(e for e in examples if e.answer == "No")
    assert clear.fields["error_lines"] == clear.fields["contradicted_lines"] == []
    story = flaw.fields["story"]
    error, contradicted = story.error + 1, story.contradicted + 1
    assert f"\n{error}. {flaw.fields['error_lines'][0]}" in flaw.text
    assert "<error_lines>" in task.prompt(flaw) and "_lines>" not in task.prompt(flaw, "direct")

    def full(*quotes):
        return checked_metrics(task, flaw, answer_of(*quotes))["ceeval_full"]

    assert full(error, contradicted) == full(f"{error}.", f"- {contradicted}") == 1
    assert full(f"{error}. {story.sentences[error - 1]}", story.sentences[contradicted - 1]) == 1
    assert full(contradicted, error) == full(0, 99) == full("the", "x") == 0
    for example in examples:
        found = checked_metrics(task, example, task.demonstration(example))
        assert found["ceeval_full"] == found["strict"] == 1


def test_generated_stories_ask_for_no_quotes_unless_told():
    task = StoriesTask()
    for example in task.examples("test", 4):
        assert "_lines>" not in task.prompt(example) + task.demonstration(example)
        assert checked_metrics(task, example, r"\boxed{Yes}") == {}


def families_file(tmp_path, count=40, **more):
    rows = [
        {"id": str(i), "story": f"Story {i}.", "answer": "Yes" if i % 2 else "No"}
        | {"family": f"f{i // 3}"}
        for i in range(count)
    ]
    return flawed(tmp_path, *rows, **more)


def test_one_file_is_cut_by_family(tmp_path):
    task = families_file(tmp_path, splits=[0.6, 0.2, 0.2])
    parts = {split: task.examples(split) for split in ("train", "val", "test")}
    assert sorted(e.id for part in parts.values() for e in part) == sorted(map(str, range(40)))
    homes = [{e.fields["family"] for e in part} for part in parts.values()]
    assert not homes[0] & homes[1] and not homes[0] & homes[2] and not homes[1] & homes[2]
    assert abs(len(parts["train"]) - 24) <= 3
    assert task.examples("test", 3) == parts["test"][:3]
    with pytest.raises(DataError, match=r"unknown split 'validation'.*'val'"):
        task.examples("validation")


def test_splits_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected sizes of train, val, test"):
        get_task("flawed_fictions", {"data": "x.jsonl", "splits": [0.5, 0.5]})
    with pytest.raises(ConfigError, match="refuses its options"):
        get_task("flawed_fictions", {"data": "x.jsonl", "splits": "most of it"})
    with pytest.raises(DataError, match="6 stories in 2 families leave none for 'test'"):
        families_file(tmp_path, 6, splits=[0.5, 0.5, 0]).examples("test")


def test_a_part_of_a_directory_is_cut(tmp_path):
    families_file(tmp_path)
    (tmp_path / "stories.jsonl").rename(tmp_path / "flawed_fictions.jsonl")
    task = FlawedFictionsTask(str(tmp_path), splits=[1, 1, 1])
    assert 12 <= len(task.examples("val")) <= 15


@given(st.text())
def test_any_completion_can_be_judged(text):
    task, example = StoriesTask(quote=True), JUDGED
    assert verdict(text) in ("Yes", "No", None)
    assert set(checked_metrics(task, example, text).values()) <= {0.0, 1.0, None}
    assert plain(plain(text)) == plain(text)


JUDGED = StoriesTask().examples("test", 1)[0]


def test_cleaning_takes_the_dashes_and_the_markup():
    raw = "<p>One &amp; two.</p><p>Then <i>three</i><br/>four.</p> <p>-------</p>"
    assert clean(raw) == "One & two.\nThen three\nfour."
    assert clean("<style>p{}</style>One<hr/>two<div>three</div><li>four</li>five") == (
        "One\ntwothree\nfour\nfive"
    )
    assert clean("x <3 y and z > 4, a<b>c</b>") == "x <3 y and z > 4, ac"
    assert clean("The end. ———") == "The end."
    assert clean("He said - nothing - twice.") == "He said - nothing - twice."


def test_the_page_shows_what_cleaning_does():
    page = (Path(__file__).parents[1] / "docs" / "flawed_fictions.md").read_text()
    raw, cleaned = (
        re.search(rf"```{kind}\n(.*?)\n```", page, re.S)[1] for kind in ("html", "text")
    )
    assert raw.endswith("-------") and clean(raw) == cleaned


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
