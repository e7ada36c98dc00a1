"""Next-chapter prediction: pairs, prompts, plans, rewards by hand; evaluation and RL from end to end."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import random_llama, word_tokenizer
from litereason import files
from litereason.checkpoints import save
from litereason.cli import main
from litereason.errors import ConfigError, DataError
from litereason.likelihood import Reference
from litereason.tasks import get_task
from litereason.tasks.base import checked_metrics, preflight, scores
from litereason.tasks.next_chapter import compare_plans, contrastive, improvement, plan_of, vr_cli

BOOKS = ("Alpha", "Alpha", "Beta")


def pair(number: int, **changes: object) -> dict:
    """A pair whose every text is of its own; words are ones of `word_tokenizer`."""
    fields = ("plot_summary", "summary_so_far", "previous_chapter", "synopsis", "header")
    row = {name: f" w{number} w{k}" for k, name in enumerate(fields, 10)}
    row |= {"id": f"pair-{number}", "book": BOOKS[number], "chapter": number + 2, "words": 6}
    row |= {"characters": [f" w{k}" for k in (16, 17, 18)], "split": "test"}
    row["next_chapter"] = f" w{number + 20} w3 w{number} w{number + 24} w5 w6"
    return row | changes


@pytest.fixture
def base(tmp_path):
    """A random model that writes plans: its tokenizer has marks as words."""
    tokenizer = word_tokenizer()
    tokenizer.add_tokens([f" In summary: w{k} " for k in range(20)])
    return save(random_llama(tokenizer), tmp_path / "model", tokenizer)


@pytest.fixture
def make(base, tmp_path):
    """Makes the task over three pairs of two books, or over given ones."""

    def task(rows=None, **options):
        rows = [pair(k) for k in range(3)] if rows is None else rows
        path = files.write_jsonl(tmp_path / "data" / "pairs.jsonl", rows)
        given = {"data": str(path), "reference": str(base), "cache": str(tmp_path / "kept")}
        given["plan_tokens"] = 20
        return get_task("next_chapter", given | options)

    return task


class Stub:
    """A reference whose losses are written down: of chapters without a plan, and of plans by text."""

    name, context = "stub", math.inf

    def __init__(self, losses):
        self.table, self.calls = losses, []

    def ids(self, text, start=False):
        return [text]

    def losses(self, prompt, passages):
        self.calls.append(passages)
        return [self.table[p.lead[1] if len(p.lead) > 1 else "", p.text[0]] for p in passages]


@pytest.mark.parametrize(
    ("completion", "plan"),
    [
        ("I think. In summary: she goes home.", "she goes home."),
        ("In summary, she goes.\n\nIn summary: no, she stays.", "no, she stays."),
        ("In summary: one. Detailed Plan: two", "two"),
        ("**In summary:** she goes.", "she goes."),
        ("**Detailed Plan**:\n1. a\n2. b", "1. a\n2. b"),
        ("**In summary: she goes.**", "she goes."),
        ("__In summary:__ she goes.", "she goes."),
        ("**In summary**: she **goes**", "she **goes**"),
        ("***In summary: she goes.***", "she goes."),
        ("_In summary, she goes._", "she goes."),
        ("### Detailed Plan\n\nShe goes.", "She goes."),
        ("## **In Summary** ##\r\nShe goes.", "She goes."),
        ("**Detailed Plan**\n1. a", "1. a"),
        ("__In summary:__ one\n# Detailed plan\ntwo", "two"),
        ("A detailed plan\n### Detailed plan of it\nShe goes.", None),
        ("The main summary: she goes.", None),
        ("In summary: ...", None),
        ("In summary: -- — __ **", None),
        ("In summary: 7", "7"),
        ("in Summary: <reasoning>she</reasoning> goes", "she goes"),
        ("In summary: so <implicit_thought>3</implicit_thought>she goes", "so she goes"),
        ("In summary: Then <i>x</i> < y > z", "Then x < y > z"),
        ("In summary she goes. A detailed plan, too.", None),
        ("In summary: one. In summary:  ", None),
        ("", None),
    ],
)
def test_the_plan_follows_the_last_mark(completion, plan):
    assert plan_of(completion) == plan


def test_a_small_models_completion_may_be_a_plan_as_a_whole(make):
    assert plan_of("<b>She</b> goes. ", unmarked=True) == "She goes."
    assert plan_of("Well. In summary: she goes.", unmarked=True) == "she goes."
    assert plan_of("  ", unmarked=True) is None
    for unmarked in (False, True):
        task = make(unmarked=unmarked)
        example = task.examples("test", 1)[0]
        assert checked_metrics(task, example, " w1 w2")["has_plan"] == unmarked
        assert (checked_metrics(task, example, " w1 w2")["improvement"] is None) != unmarked


@given(st.text(), st.text(alphabet="abc <>/*12\n", min_size=1))
def test_a_plan_has_no_tags_and_is_found_behind_anything(before, plan):
    found = plan_of(f"{before}\nIn summary: {plan}")
    assert found is None or not re.search(r"</?\w+>", found)
    if not set(plan) & set("<>*"):
        assert found == (plan.strip() if set(plan) & set("abc12") else None)


def test_rewards_by_hand():
    """PPL 10 without a plan: 9.8 is 2 per cent better, and so on."""
    cases = [
        (9.79, 1.0),
        (9.81, 0.9),
        (9.89, 0.9),
        (9.91, 0.5),
        (9.994, 0.5),
        (9.996, 0.0),
        (11, 0),
    ]
    for perplexity, reward in cases:
        found = improvement(math.log(10), math.log(perplexity))
        assert found == pytest.approx(10 * (10 - perplexity))
        assert vr_cli(found) == reward
    assert [vr_cli(x) for x in (2.0, 1.0, 0.05)] == [1.0, 0.9, 0.5]
    assert contrastive(3.0, 4.0) == 1.0


def test_a_batch_is_scored_by_item_and_each_plan_once(make):
    task = make(score="contrastive")
    one, two, three = task.examples("test")
    assert one.fields["other_chapter"] == three.fields["next_chapter"]
    assert three.fields["other_chapter"] in (one.fields["next_chapter"], two.fields["next_chapter"])
    first, other = one.fields["next_chapter"], one.fields["other_chapter"]
    second = two.fields["next_chapter"]
    losses = {("", first): 10, ("", other): 20, ("", second): 40}
    losses |= {("good", first): 8, ("good", other): 18, ("bad", first): 10, ("bad", other): 25}
    losses |= {("good", second): 20, ("good", other): 18}
    task.reference = Stub({key: math.log(value) for key, value in losses.items()})
    texts = [f"In summary: {plan}" for plan in ("good", "bad", "good")]
    found = scores(
        task, [one, one, two, one, one], [texts[0], texts[1], texts[0], texts[2], "none"]
    )
    # good: 20 % on the true chapter, 10 % on the other; bad: 0 % and -25 %; on the second: 50 % and 10 %
    assert found == pytest.approx([15.0, 12.5, 45.0, 15.0, 0.0])
    assert [len(passages) for passages in task.reference.calls] == [6, 4]
    assert [p.keep for p in task.reference.calls[1]] == [True, False, True, False]
    metrics = checked_metrics(task, one, texts[1])
    wanted = {"improvement": 0, "vr_cli": 0, "other_chapter": -25, "contrastive": 12.5}
    assert metrics == pytest.approx(wanted | {"has_plan": 1})
    assert len(task.reference.calls) == 2
    assert checked_metrics(task, one, "none")["contrastive"] == 0.0


def test_no_plan_needs_no_model(make, monkeypatch):
    task = make()
    monkeypatch.setattr(Reference, "model", property(lambda self: pytest.fail("model loaded")))
    examples = preflight(task, "test", None, "plain")
    assert scores(task, examples, ["Well.", "In summary", ""]) == [0.0, 0.0, 0.0]
    assert checked_metrics(task, examples[0], "") == {
        "has_plan": 0.0, "improvement": None, "vr_cli": 0.0
    }  # fmt: skip


def test_the_chapter_has_the_same_ids_with_and_without_a_plan(make):
    task = make(score_tokens=4, plan_tokens=3)
    example = task.examples("test")[0]
    calls = []
    real = task.reference.losses
    task.reference.losses = lambda prompt, passages: (
        calls.append((prompt, passages)) or real(prompt, passages)
    )
    task.reward(example, "In summary: w1 w2 w7 w8 w9")
    prompt, (without, with_plan) = calls[0]
    read = task.reference.tokenizer.decode
    assert without.text == with_plan.text and read(with_plan.text) == " w20 w3 w0 w24"
    assert with_plan.lead[-len(without.lead) :] == without.lead
    assert re.findall(r"w\d+", read(with_plan.lead)) == ["w2", "w0", "w14"]  # "w1" is two
    # the first word of a section lacks its space
    assert re.findall(r"w\d+", read(prompt)) == ["w10", "w11", "w17", "w18", "w12", "w13"]


def test_prompts_name_everything_in_order(make):
    task = make(previous_words=1)
    example = task.examples("test")[1]
    for mode in ("plain", "latent", "direct"):
        prompt = task.prompt(example, mode)
        assert re.findall(r"\bw\d+", prompt) == [
            "w1", "w10", "w1", "w11", "w16", "w17", "w18", "w12", "w1", "w13", "w1", "w14"
        ]  # fmt: skip
        assert ("<implicit_thought>number" in prompt) == (mode == "latent")
        assert ("<citation>" in prompt) == (mode != "direct")
        assert "In summary:" in prompt
        assert example.fields["next_chapter"] not in prompt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"characters": ["a", "b"]}, "line 2: 'characters' is .*; expected a list of 3 texts"),
        ({"characters": ["a", "b", 3]}, "list of 3 texts"),
        ({"characters": "a"}, "'characters' is 'a'; expected a list of 3 texts"),
        ({"chapter": "5"}, "'chapter' is '5'; expected a whole number"),
        ({"words": True}, "'words' is True"),
        ({"synopsis": None}, "'synopsis' is None; expected text"),
        ({"next_chapter": "  "}, "'next_chapter' is '  '"),
        ({"split": 1}, "'split' is 1"),
    ],
)
def test_a_pair_that_is_none_is_named(make, changes, message):
    with pytest.raises(DataError, match=message):
        make([pair(0), pair(1, **changes)]).examples("test")


def test_data_and_options_that_cannot_work(make, tmp_path):
    rows = [pair(0), {k: v for k, v in pair(1).items() if k != "header"}]
    with pytest.raises(DataError, match="line 2: 'header' is missing"):
        make(rows).examples("test")
    with pytest.raises(DataError, match=r"no pairs of split 'train'; its splits are \['test'\]"):
        make().examples("train")
    with pytest.raises(DataError, match="one book only, 'Alpha'"):
        make([pair(0), pair(1)], score="contrastive").examples("test")
    with pytest.raises(ConfigError, match="score is 'best'"):
        make(score="best")
    with pytest.raises(ConfigError, match="score_tokens is 0"):
        make(score_tokens=0)
    with pytest.raises(ConfigError, match=r"'next_chapter' needs --task_options\.data$"):
        get_task("next_chapter")
    assert len(make(data=str(tmp_path / "data")).examples("test", 2)) == 2  # the directory


def test_a_chapter_that_does_not_fit_is_named_before_any_work(make, monkeypatch):
    monkeypatch.setattr(Reference, "model", property(lambda self: pytest.fail("model loaded")))
    rows = [pair(0), pair(1, next_chapter=" w1" * 200)]
    with pytest.raises(
        DataError, match=r"'pair-1': \d+ tokens .* 200 of the chapter exceed the 256"
    ):
        make(rows).examples("test")
    assert make(rows, score_tokens=50).examples("test")


def test_every_metric_reaches_the_summary_and_plans_of_other_books_are_compared(
    make, base, tmp_path
):
    task = make(score="contrastive")
    words = ["--model", str(base), "--task", "next_chapter", "--run_dir", str(tmp_path / "run")]
    for name in ("data", "cache", "score", "plan_tokens"):
        words += [f"--task_options.{name}", str(getattr(task, name))]
    words += ["--task_options.reference", str(base), "--name", "arm"]
    sampler = ["--max_new_tokens", "30", "--samples", "4", "--batch_size", "6"]
    sampler += ["--temperature", "5", "--top_p", "1", "--top_k", "0"]
    assert main(["eval", *words, *sampler]) == 0
    directory = tmp_path / "run" / "eval" / "arm"
    summary = files.read_json(directory / "summary.json")
    assert {n: m["items"] for n, m in summary["metrics"].items()} == dict.fromkeys(
        ("has_plan", "improvement", "vr_cli", "other_chapter", "contrastive"), 3
    )
    assert summary["reward"]["mean"] == pytest.approx(summary["metrics"]["contrastive"]["mean"])
    assert len(list((tmp_path / "kept").iterdir())) == 6  # two chapters an item

    records = files.read_jsonl(directory / "records.jsonl")
    examples = task.examples("test")
    found = compare_plans(task, examples, records)
    firsts = {}
    for record in records:
        text = "".join(t for kind, t in record["spans"] if kind != "latent")
        if plan_of(text):
            firsts.setdefault(record["item"], (plan_of(text), record["metrics"]["improvement"]))
    assert found["items"] == 3
    assert found["own"] == pytest.approx(sum(own for _, own in firsts.values()) / 3)
    # Alpha's two items have Beta's plan, Beta's item one of theirs
    plans = [firsts[f"pair-{k}"][0] for k in range(3)]
    foreign = [task.improvements(e, [e.fields["next_chapter"]], plans)[0] for e in examples]
    means = [(foreign[0][2] + foreign[1][2] + foreign[2][k]) / 3 for k in (0, 1)]
    assert min(abs(found["other"] - mean) for mean in means) < 1e-9
    assert found["difference"] == pytest.approx(found["own"] - found["other"])
    with pytest.raises(DataError, match=r"plans of \['Alpha'\] only"):
        compare_plans(task, examples[:2], records)


def test_rl_from_end_to_end(make, base, tmp_path):
    task = make()
    words = ["--model", str(base), "--task", "next_chapter", "--run_dir", str(tmp_path / "run")]
    options = {"data": task.data, "cache": task.cache, "reference": base, "plan_tokens": 20}
    for name, value in options.items():
        words += [f"--task_options.{name}", str(value)]
    words += ["--mode", "latent", "--projector", "rms", "--projector_depth", "1", "--split", "test"]
    words += ["--max_steps", "2", "--num_generations", "4", "--per_device_train_batch_size", "4"]
    words += ["--gradient_accumulation_steps", "1", "--max_completion_length", "16"]
    words += ["--temperature", "5", "--logging_steps", "1"]
    assert main(["rl", *words]) == 0
    logs = files.read_jsonl(tmp_path / "run" / "rl" / "litereason" / "metrics.jsonl")
    rewards = [log["reward"] for log in logs if "reward" in log]
    assert len(rewards) == 2 and max(rewards) > 0
    assert json.loads(next((tmp_path / "kept").iterdir()).read_text())["loss"] > 0
