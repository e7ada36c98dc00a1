"""GSM8K and GSM-Hard: hand-written rows in their formats, answers checked in the last box."""

import threading

import pytest

from litereason import files
from litereason.errors import DataError
from litereason.tasks import get_task
from litereason.tasks.base import scores

pytest.importorskip("math_verify")

from litereason.tasks import math

GSM8K = [
    {
        "question": "Ida has 3 bags of 24 nuts. How many nuts are that?",
        "answer": "She has 3*24 = <<3*24=72>>72 nuts.\nAll are hers.\n#### 72",
    },
    {"question": "And a thousand more?", "answer": "#### 1,072"},
]
HARD = [
    {
        "input": "What is a third of -7?",
        "code": "def solution(): ...",
        "target": -2.3333333333333335,
    },
    {"input": "And 3 million?", "target": 3000000.0},
]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1234", "1,234"),
        ("1,234", "1234.00"),
        ("1234", r"1{,}234"),
        ("1234", r"1\,234"),
        ("-3.5", "-3.5"),
        ("-3.5", r"-\frac{7}{2}"),
        ("0.5", "1/2"),
        ("1000", "1e3"),
        ("-0.0015", "-1.5E-3"),
        ("1.2e-05", "0.000012"),
        ("1000", r"10^3"),
        ("18", "18."),
        ("18", r"\$18"),
        ("18", r"18\text{ dollars}"),
        ("18", "x = 18"),
        ("5717241.0", "5,717,241"),
    ],
)
def test_the_same_number_in_other_words(gold, answer):
    assert math.equal(gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "81"),
        ("18", "-18"),
        ("18", "180"),
        ("18", ""),
        ("18", "Yes"),
        ("18", "}{"),
        ("18", "17 or 18"),
        ("1000", "1e4"),
        ("3", "1e3"),
        ("0.5", "0.51"),
        ("18", "eighteen"),
    ],
)
def test_other_numbers_and_no_numbers(gold, answer):
    assert not math.equal(gold, answer)


def test_an_answer_that_takes_for_ever_is_wrong(monkeypatch):
    monkeypatch.setattr(math, "SECONDS", 1)
    assert not math.equal("17", "9^{9^{9^{9}}}")


def test_answers_are_checked_on_any_thread():
    """math-verify's time limit is a signal, which only the main thread can set."""
    found = []
    thread = threading.Thread(target=lambda: found.append(math.equal("41", "41.0")))
    thread.start()
    thread.join()
    assert found == [True]


def test_gsm8k(tmp_path):
    task = get_task("gsm8k", {"data": str(files.write_jsonl(tmp_path / "x.jsonl", GSM8K))})
    first, second = task.examples("test")
    assert (first.id, first.answer, second.answer) == ("1", "72", "1,072")
    assert first.text == GSM8K[0]["question"] and first.text in task.prompt(first, "latent")
    texts = [
        r"\boxed{72}",
        r"\boxed{72} or \boxed{71}",
        r"\boxed{71} or \boxed{72}",
        "72",
        "#### 72",
    ]
    assert scores(task, [first] * 5, texts) == [1, 0, 1, 0, 0]
    assert scores(task, [second] * 2, [r"\boxed{1072}", r"\boxed{1,72}"]) == [1, 0]
    shown = task.demonstration(first)
    assert shown == "She has 3*24 = 72 nuts.\nAll are hers.\n\\boxed{72}"
    assert task.reward(first, shown) == 1


def test_gsm_hard(tmp_path):
    files.write_jsonl(tmp_path / "test.jsonl", HARD)
    task = get_task("gsm_hard", {"data": str(tmp_path)})
    third, million = task.examples("test")
    assert task.examples("test", 1) == [third]
    assert scores(task, [third] * 2, [r"\boxed{-\frac{7}{3}}", r"\boxed{-2.3}"]) == [1, 0]
    assert scores(task, [million] * 2, [r"\boxed{3,000,000}", r"\boxed{3}"]) == [1, 0]
    assert task.demonstration(third) is None
    with pytest.raises(DataError, match=r"no such file: .*train\.jsonl"):
        task.examples("train")
    with pytest.raises(DataError, match="its only split is 'test', not 'train'"):
        get_task("gsm_hard").examples("train")


def test_the_hub_calls_the_test_set_of_gsm_hard_train(monkeypatch):
    asked = []
    monkeypatch.setattr(math, "read_split", lambda *place: asked.append(place) or [])
    for name in ("gsm_hard", "gsm8k"):
        get_task(name).examples("test")
    assert asked == [
        ("reasoning-machines/gsm-hard", "train", None),
        ("openai/gsm8k", "test", "main"),
    ]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"answer": "#### 3"}, "line 1: field 'question' holds no text"),
        ("gsm8k", {"question": "q", "answer": "3"}, "'answer' is '3'; expected steps that end"),
        ("gsm8k", {"question": "q", "answer": "#### many"}, "expected steps that end"),
        ("gsm8k", {"question": "q"}, "'answer' is None"),
        ("gsm_hard", {"input": "q", "target": "many"}, "'target' is 'many'; expected a number"),
        ("gsm_hard", {"input": "q"}, "'target' is None"),
        ("gsm_hard", {"input": "q", "target": True}, "'target' is True"),
    ],
)
def test_rows_of_another_kind_are_named(tmp_path, name, row, message):
    data = str(files.write_jsonl(tmp_path / "x.jsonl", [row]))
    with pytest.raises(DataError, match=message):
        get_task(name, {"data": data}).examples("test")
