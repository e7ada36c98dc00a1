"""What a task may do: batches of rewards, metrics, rows of a file with a reward function, splits."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import files
from litereason.cli import main
from litereason.errors import ConfigError, DataError, RewardError
from litereason.records import summarise
from litereason.tasks import TASKS, get_task
from litereason.tasks.base import Example, Task, checked_metrics, scores
from litereason.tasks.data import split_groups
from litereason.tasks.jsonl import JsonlTask
from litereason.tasks.next_chapter import SECTIONS


def test_the_instructions_are_no_tags():
    """The prompt shows the tag's form with a word in it; as a tag it would open a thought."""
    pair = {name: "x" for name in SECTIONS} | {"characters": ["x"] * 3, "header": "x"}
    for name in TASKS:
        task = get_task(name, {"data": "x"} if name in ("jsonl", "next_chapter") else {})
        for mode in ("plain", "latent", "direct"):
            prompt = task.prompt(Example("a", "One.", "Yes", pair), mode)
            assert not re.search(r"<implicit_thought>\s*\d", prompt)
            assert ("implicit_thought" in prompt) == (mode == "latent")


class Batch(Task):
    """Rewards of a batch at once, and two metrics; `given` is what `rewards` returns."""

    name = "batch"

    def __init__(self, given=None):
        self.given = given

    def examples(self, split, limit=None):
        return [Example(str(i), f"{i}", "") for i in range(6)][:limit]

    def prompt(self, example, mode="plain"):
        return f" w{example.text}"

    def reward(self, example, completion):
        raise AssertionError("the batch is scored at once")

    def rewards(self, examples, completions):
        if self.given is not None:
            return self.given
        assert len(examples) == len(completions)
        return [float(len(completions))] * len(completions)

    def metrics(self, example, completion):
        number = int(example.text)
        return {"double": 2.0 * number, "odd": float(number) if number % 2 else None}


EXAMPLES = Batch().examples("test")


def test_a_batch_is_scored_in_one_call():
    assert scores(Batch(), EXAMPLES[:3], ["a", "b", "c"]) == [3.0, 3.0, 3.0]
    assert scores(Batch([None, True, 2]), EXAMPLES[:3], ["a", "b", "c"]) == [None, 1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "'batch' are 1 for 2 completions .*'0'"),
        ([1.0, 2.0, 3.0], "are 3 for 2 completions"),
        ([0.0, float("nan")], "is nan for example '1'"),
        ([0.0, "good"], "is 'good' for example '1'"),
        (3, "the rewards of task 'batch' are 3; expected a list"),
    ],
)
def test_a_faulty_batch_is_an_error_that_says_where(given, message):
    with pytest.raises(RewardError, match=message):
        scores(Batch(given), EXAMPLES[:2], ["a", "b"])


def test_a_batch_that_raises_names_its_examples():
    class Raises(Batch):
        def rewards(self, examples, completions):
            raise KeyError("luck")

    with pytest.raises(RewardError, match=r"raised KeyError on a batch of examples \['0', '1'\]"):
        scores(Raises(), EXAMPLES[:2], ["a", "b"])


def test_metrics_are_checked_as_rewards_are():
    assert checked_metrics(Batch(), EXAMPLES[1], "") == {"double": 2.0, "odd": 1.0}
    assert checked_metrics(Batch(), EXAMPLES[2], "")["odd"] is None

    class Wrong(Batch):
        def metrics(self, example, completion):
            return {"good": "very"} if example.id == "0" else 1 / 0

    with pytest.raises(RewardError, match=r"the metric 'good' of task 'batch' is 'very' for .*'0'"):
        checked_metrics(Wrong(), EXAMPLES[0], "")
    with pytest.raises(RewardError, match=r"the metrics of task 'batch' raised ZeroDivision.*'1'"):
        checked_metrics(Wrong(), EXAMPLES[1], "")


def test_a_metric_is_a_mean_over_the_items_that_it_applies_to():
    """Two samples an item: the item's mean comes first, so that items weigh alike."""

    def record(item, value):
        counts = {"discrete_tokens": 1, "latent_steps": 0, "thoughts": 0, "truncated": False}
        return {"item": item, "reward": 1.0, "correct": True, "metrics": {"x": value}, **counts}

    given = [("a", 0.0), ("a", 1.0), ("b", 2.0), ("b", None), ("c", None), ("c", None)]
    found = summarise([record(*one) for one in given])["metrics"]["x"]
    assert (found["mean"], found["items"]) == (1.25, 2)  # (0.5 + 2) / 2; c has none
    assert found["low"] == 0.5 and found["high"] == 2.0
    assert summarise([record("c", None)])["metrics"] == {"x": None}


def test_an_evaluation_with_metrics_goes_on_after_a_kill(
    latent_llama, words, tmp_path, monkeypatch
):
    """The same records as an uninterrupted one, and nothing is scored twice."""
    from litereason.evaluate import evaluate
    from litereason.sampling import SamplingConfig

    config = SamplingConfig(samples=2, max_new_tokens=4, batch_size=4, temperature=1.0)
    model = [latent_llama, words]
    rest = ["plain", config]
    whole = evaluate(*model, Batch(), EXAMPLES, *rest, tmp_path / "whole", "whole")
    assert whole["metrics"]["double"]["mean"] == 5.0 and whole["metrics"]["odd"]["items"] == 3

    class Killed(Batch):
        calls = 0

        def rewards(self, examples, completions):
            Killed.calls += 1
            if Killed.calls == 3:
                raise KeyboardInterrupt
            return super().rewards(examples, completions)

    with pytest.raises(KeyboardInterrupt):
        evaluate(*model, Killed(), EXAMPLES, *rest, tmp_path / "killed", "killed")
    again = evaluate(*model, Killed(), EXAMPLES, *rest, tmp_path / "killed", "killed")
    assert Killed.calls == 4 and again == whole
    read = [files.read_jsonl(tmp_path / name / "records.jsonl") for name in ("whole", "killed")]
    assert read[0] == read[1] and read[0][0]["metrics"] == {"double": 0.0, "odd": None}


REWARD = """
def near(prompts, completions, answer, weight, **kwargs):
    assert sorted(kwargs) == ["id", "note"], kwargs
    return [
        None if n == "skip" else w * (a in c) + (p in c)
        for p, c, a, w, n in zip(prompts, completions, answer, weight, kwargs["note"])
    ]
"""
ROWS = [
    {"id": "a", "prompt": "one?", "answer": 1, "weight": 2},
    {"id": 7, "prompt": "two?", "answer": "2", "weight": 0.5, "note": "skip"},
]


def rows_file(path, rows):
    return str(files.write_jsonl(path, rows))


def test_rows_and_a_reward_function_are_a_task(tmp_path):
    (tmp_path / "reward.py").write_text(REWARD.replace("(a in c)", "(str(a) in c)"))
    data = rows_file(tmp_path / "x.jsonl", [ROWS[0] | {"answer": "1"}, ROWS[1] | {"id": "b"}])
    task = get_task("jsonl", {"data": data, "reward": f"{tmp_path}/reward.py:near"})
    first, second = task.examples("train")
    assert (first.id, first.text, first.answer, second.id) == ("a", "one?", "1", "b")
    assert task.examples("test", 1) == [first]
    assert task.prompt(first) == "one?" and "silence" in task.prompt(first, "latent")
    assert "at once" in task.prompt(first, "direct")
    texts = ["1", "one? 1", "2"]
    assert scores(task, [first, first, second], texts) == [2.0, 3.0, None]


def test_a_function_that_does_not_take_a_field_is_named(tmp_path):
    (tmp_path / "reward.py").write_text("def f(completions):\n    return [1.0] * len(completions)")
    data = rows_file(tmp_path / "x.jsonl", [ROWS[1]])
    task = JsonlTask(data, f"{tmp_path}/reward.py:f")
    with pytest.raises(RewardError, match=r"'jsonl' raised TypeError on example '7'.*unexpected"):
        scores(task, task.examples("test"), ["x"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('kaboom')", "raised RuntimeError on a batch .*kaboom"),
        ("return [1.0]", "are 1 for 2 completions"),
        ("return ['yes', 'no']", "is 'yes' for example '1'; expected a number"),
        ("return 'ab'", "is 'a' for example '1'; expected a number"),
        ("return None", "the rewards of task 'jsonl' are None; expected a list, one a completion"),
        ("return 1.0", "the rewards of task 'jsonl' are 1.0; expected a list, one a completion"),
    ],
)
def test_a_function_that_returns_no_rewards_is_named(tmp_path, body, message):
    (tmp_path / "reward.py").write_text(f"def f(completions, **columns):\n    {body}\n")
    data = str(files.write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a"}, {"prompt": "b"}]))
    task = get_task("jsonl", {"data": data, "reward": f"{tmp_path}/reward.py:f"})
    with pytest.raises(RewardError, match=message):
        scores(task, task.examples("test"), ["x", "y"])


def test_without_a_function_the_last_box_must_hold_the_answer(tmp_path):
    rows = [{"prompt": "Capital of France?", "answer": "Paris"}]
    task = JsonlTask(rows_file(tmp_path / "x.jsonl", rows))
    (example,) = task.examples("test")
    texts = [r"\boxed{Rome}, no: \boxed{\text{paris}}", r"\boxed{Paris} \boxed{Rome}", "Paris"]
    assert example.id == "1" and scores(task, [example] * 3, texts) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"answer": "x"}], r"x.jsonl, line 1: field 'prompt' holds no text but None"),
        ([{"prompt": " ", "answer": "x"}], "holds no text but ' '"),
        ([{"prompt": "p"}], "line 1: no 'answer'.*--reward"),
        ([{"prompt": "p", "answer": True}], "'answer' is True; expected text or a number"),
        ([{"prompt": "p", "answer": 1}, {}, {"prompt": "q", "answer": "2"}],
         r"line 3: 'answer' is '2' \(text\), but a number in .*x.jsonl, line 1"),
        ([{"prompt": "p", "answer": "1", "k": [1]}, {"prompt": "q", "answer": "2", "k": {}}],
         r"line 2: 'k' is {} \(an object\), but a list"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        JsonlTask(rows_file(tmp_path / "x.jsonl", rows)).examples("test")


def test_line_numbers_count_blank_lines(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "p", "answer": "1"}\n\n{"prompt": 3, "answer": "1"}\n')
    with pytest.raises(DataError, match="line 3: 'prompt' is 3"):
        JsonlTask(str(path)).examples("test")


def test_data_and_reward_are_options_of_every_stage(tiny_base, tmp_path, monkeypatch, capsys):
    """`--data FILE --reward FILE.py:name` without a task; --data alone is the data of --task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reward.py").write_text(
        "def f(completions, **kwargs): return [1.0] * len(completions)"
    )
    rows_file(tmp_path / "x.jsonl", [{"prompt": "One?"}, {"prompt": "Two?"}])
    model = ["--model", str(tiny_base), "--run_dir", "run"]
    short = ["--samples", "1", "--max_new_tokens", "4"]
    rows = ["--data", "x.jsonl", "--reward", "reward.py:f"]
    assert main(["collect", *model, *short, *rows]) == 0
    assert len(files.read_jsonl("run/collect/litereason/traces.jsonl")) == 2
    assert main(["eval", *model, *short, *rows]) == 0
    summary = files.read_json("run/eval/litereason/summary.json")
    assert summary["task"] == "jsonl" and summary["accuracy"]["mean"] == 1.0
    assert "--task_options.reward reward.py:f" in summary["command"]
    recipe = "model: x\ntask: stories\ndata: x.jsonl\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    capsys.readouterr()
    assert main(["eval", "--config", "recipe.yaml"]) == 2
    assert "task 'stories' takes the options" in capsys.readouterr().err


def test_a_reward_that_is_no_function(tmp_path):
    (tmp_path / "reward.py").write_text("f = 3")
    with pytest.raises(ConfigError, match=r"reward\.py:f is 3; expected a function"):
        get_task("jsonl", {"data": "x.jsonl", "reward": f"{tmp_path}/reward.py:f"})
    with pytest.raises(ConfigError, match=r"no such file: no\.py"):
        get_task("jsonl", {"data": "x.jsonl", "reward": "no.py:f"})


def test_families_stay_together_and_sizes_are_near_what_was_asked():
    groups = ["a"] * 3 + ["b"] * 2 + list("cdefg")
    homes = split_groups(groups, [0.7, 0.15, 0.15])
    assert homes == split_groups(groups, [70, 15, 15])
    assert homes[0] == homes[1] == homes[2] and homes[3] == homes[4]
    assert sorted(homes.count(i) for i in range(3)) == [1, 2, 7]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=80), st.lists(st.integers(1, 9), min_size=1)
)
def test_any_groups_stay_together(groups, shares):
    homes = split_groups(groups, shares)
    assert len({(group, home) for group, home in zip(groups, homes, strict=True)}) == len({*groups})
    largest = max(groups.count(group) for group in groups)
    for split, share in enumerate(shares):
        assert homes.count(split) < len(groups) * share / sum(shares) + largest


TYPED = """
from __future__ import annotations
from typing import Optional
from litereason.tasks.stories import StoriesTask

class Typed(StoriesTask):
    name = "typed"
    def __init__(self, n: int = 1, share: float = 0.5, word: str = "a", quick: bool = False,
                 most: Optional[int] = None, least: int | None = 3, names: list[str] = [], any=None):
        super().__init__()
        self.given = [n, share, word, quick, most, least, names, any]

class Odd(StoriesTask):
    name = "odd"
    def __init__(self, n: int = 1, elsewhere: OnlyForTypeCheckers = None, *args, **options):
        self.given = [n, elsewhere]
"""


def test_options_of_a_task_are_what_its_constructor_says(tmp_path, capsys):
    """Plain types are checked and made before anything runs, others are the task's own business."""
    (tmp_path / "typed.py").write_text(TYPED)

    def given(name: str = "Typed", /, **options) -> list:
        return get_task(f"{tmp_path}/typed.py:{name}", options).given  # pyright: ignore[reportAttributeAccessIssue]

    assert given() == [1, 0.5, "a", False, None, 3, [], None]
    assert given(n=4, share=2, word=7, quick=True, most=None, least=None, names="x", any="y") == [
        *(4, 2.0, "7", True, None, None, "x", "y")
    ]
    assert given("Odd", n="x", elsewhere=1) == ["x", 1]
    for option, value, expected in (
        *(("n", "abc", "int"), ("n", 1.5, "int"), ("n", None, "int"), ("n", True, "int")),
        *(("share", "abc", "float"), ("word", ["a"], "str"), ("quick", 1, "bool")),
        *(("most", "abc", "int or NoneType"), ("least", "abc", "int or NoneType")),
    ):
        with pytest.raises(ConfigError) as caught:
            given(**{option: value})
        assert str(caught.value) == f"--task_options.{option} is {value!r}; expected {expected}"
    place = Path(__file__).parents[1] / "examples" / "my_task.py:CalendarTask"
    words = ["audit", "--task", str(place), "--task_options.furthest", "abc"]
    assert main(words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert told == "error: --task_options.furthest is 'abc'; expected int"


def test_the_example_task_runs_through_every_stage(tiny_base, tmp_path, monkeypatch):
    """examples/my_task.py on one screen: collected, trained on for two steps, judged."""
    place = Path(__file__).parents[1] / "examples" / "my_task.py"
    assert len(place.read_text().splitlines()) <= 50
    task = get_task(f"{place}:CalendarTask", {})
    example = task.examples("train", 1)[0]
    assert task.reward(example, task.demonstration(example)) == 1.0
    assert task.reward(example, r"\boxed{Someday}") == 0.0
    assert not {e.text for e in task.examples("train")} & {e.text for e in task.examples("test")}
    monkeypatch.chdir(tmp_path)
    told = ["--model", str(tiny_base), "--task", f"{place}:CalendarTask", "--limit", "4"]
    assert main(["collect", *told, "--demonstrations"]) == 0
    train = ["--max_steps", "2", "--num_generations", "2", "--per_device_train_batch_size", "2"]
    train += ["--gradient_accumulation_steps", "1", "--max_completion_length", "6"]
    assert main(["rl", *told, "--mode", "latent", *train, "--refresh", "off"]) == 0
    assert main(["eval", *told, "--samples", "1", "--max_new_tokens", "6"]) == 0
    summary = files.read_json("runs/default/eval/litereason/summary.json")
    assert summary["items"] == 4 and summary["metrics"]["is_a_day"]["items"] == 4


def test_the_example_reward_works_in_rl(tiny_base, tmp_path, monkeypatch):
    """The two files that docs/tasks.md shows: rows, and a reward in TRL's signature."""
    folder = Path(__file__).parents[1] / "examples"
    monkeypatch.chdir(tmp_path)
    told = ["--model", str(tiny_base), "--data", str(folder / "my_rows.jsonl")]
    told += ["--reward", f"{folder}/my_reward.py:one_word_is_right"]
    train = ["--max_steps", "2", "--num_generations", "2", "--per_device_train_batch_size", "2"]
    train += ["--gradient_accumulation_steps", "1", "--max_completion_length", "6"]
    assert main(["rl", *told, *train]) == 0
    assert [row["step"] for row in files.read_jsonl("runs/default/rl/litereason/metrics.jsonl")]
