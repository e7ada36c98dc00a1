"""The audit: planted cues are named, clean data passes, chance is what it says; duplicates, bad input."""

import dataclasses
import json
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import files
from litereason.audit import Item, examine, families
from litereason.audit.chance import accuracies, p_values, permuted
from litereason.audit.record import warning
from litereason.audit.rules import Rule, Rules
from litereason.cli import main
from litereason.errors import DataError
from litereason.stages import EvalConfig
from litereason.tasks import get_task
from litereason.tasks.flawed_fictions import clean

WORDS = [a + b + c for a in "bdfgklmnpr" for b in ("a", "e", "i", "o", "u") for c in "lnrst"]


def prose(chance: random.Random, words: int = 60) -> str:
    """Sentences of words without meaning, distributed alike for every label."""
    text = " ".join(chance.choices(WORDS, k=words + chance.randrange(-10, 11)))
    return re.sub(r"(\w+ \w+ \w+ \w+ \w+) ", r"\1. ", text).capitalize() + "."


def items(count: int, change=lambda text, label: text, labels=("No", "Yes")) -> list[Item]:
    chance = random.Random(5)
    made = []
    for i in range(count):
        label = labels[i % len(labels)]
        made.append(Item(f"all:{i}", change(prose(chance), label), label, "all"))
    return made


def planted(cue):
    """Gives `cue` to 9 of 10 texts of one label."""
    chance = random.Random(1)
    return lambda text, label: cue(text) if label == "Yes" and chance.random() < 0.9 else text


def run(*words: object) -> int:
    return main([str(word) for word in words])


def write(path: Path, rows: list[dict]) -> Path:
    return files.write_jsonl(path, rows)


def test_the_seven_dashes_are_named_and_cleaning_takes_them(tmp_path, capsys):
    """The situation of Flawed Fictions: 4 of 5 flawed stories end in dashes, no other one does."""
    chance = random.Random(0)
    rows = []
    for i in range(200):
        label, text = ("Yes", "No")[i % 2], prose(chance)
        dashed = label == "Yes" and i % 5 > 0
        html = f"<p>{text}</p><p>{prose(chance)}{' -------' if dashed else ''}</p>"
        rows.append({"story_html": html, "story": clean(html), "answer": label})
    path = write(tmp_path / "train.jsonl", rows)
    assert run("audit", path, "--text", "story_html", "--label", "answer") == 1
    seen = " ".join(capsys.readouterr().out.split())
    assert seen.startswith("LEAK: a text that ends with a run of exactly 7: '-------' is 'Yes'")
    assert "right for 90.0% of items (the commonest label has 50.0%; p = 0.001" in seen

    assert run("audit", path, "--text", "story_html", "--label", "answer", "--json") == 1
    result = json.loads(capsys.readouterr().out)
    first = result["search"]["leaks"][0]
    assert (first["accuracy"], first["holds"], first["right_if"]) == (pytest.approx(0.9), 80, 80)
    told = {probe["name"]: probe for probe in result["search"]["probes"]}
    assert told["endings and beginnings"]["accuracy"] > 0.85
    assert told["endings and beginnings"]["p"] == pytest.approx(1 / 201)

    assert run("audit", path, "--text", "story", "--label", "answer") == 0
    assert capsys.readouterr().out.startswith("OK: no leak found")


CUES = {
    "ending": (lambda text: text + " The end", "last word is 'end'|ends with '.* The end'"),
    "beginning": (lambda text: "Once, " + text, "begins with 'Once, ?'"),
    "length": (lambda text: text + text[:300], "at least .* (characters|words)"),
    "punctuation": (lambda text: text.replace(". ", "; ", 5), "at least .* × '[.;]'"),
    "markup": (lambda text: text.replace(". ", ". <br> ", 2), "× '<br'"),
    "marks": (lambda text: text.replace(". ", ". ~~ ", 1), "has '.*~"),
    "word": (lambda text: text.replace(". ", ". zebra ", 1), "has the word 'zebra'"),
    "n-gram": (lambda text: text.replace("a", "aqy", 1), "has '.*q"),
}


@pytest.mark.parametrize("family", CUES)
def test_every_kind_of_cue_is_named(family):
    cue, says = CUES[family]
    result = examine(items(160, planted(cue)))
    assert result["leak"] is True
    best = max(one["accuracy"] for one in result["search"]["best"])
    found = next(one for one in result["search"]["best"] if one["family"] == family)
    assert found["accuracy"] == pytest.approx(best, abs=0.02) and found["p"] < 0.01
    assert re.search(says, found["text"]), found


def test_many_weak_cues_are_found_by_a_probe():
    """No single mark tells the label; together they do."""
    chance = random.Random(2)

    def sprinkle(text: str, label: str) -> str:
        for mark in "!?;:#%&*+=@$^~|/_-":
            if chance.random() < (0.57 if label == "Yes" else 0.45):
                place = chance.randrange(5, len(text) - 5)
                text = text[:place] + mark + text[place:]
        return text

    result = examine(items(240, sprinkle))
    assert result["search"]["leaks"] == [] and result["leak"] is True
    assert "by lengths, punctuation and markup alone" in result["verdict"]


def test_accuracy_is_that_of_the_best_label_on_either_side():
    # a a a b b c c c: the first rule holds for a a a b, the second for the last c
    bits = np.packbits(np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]), axis=1)
    rules = Rules([Rule("format", "ending", name) for name in "xy"], bits, 8)
    labels = np.array([[0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 2, 1, 1, 2, 2]])
    true, best = accuracies(rules, labels)
    assert true.tolist() == [6 / 8, 4 / 8]  # 3 a + 3 c; 1 c + 3 a
    assert best.tolist() == [5 / 8]  # 3 a + 2 b
    assert p_values(np.array([0.9, 0.5]), np.array([0.6, 0.7, 0.5])).tolist() == [1 / 4, 1]


def test_corrected_p_values_hold_for_the_whole_search():
    """Where no rule means anything, a search finds one at .05 in a twentieth of data sets."""
    chance = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        holds = chance.random((80, 50)) < 0.4
        rules = Rules([Rule("format", "ending", "")] * 80, np.packbits(holds, axis=1), 50)
        labels = chance.integers(0, 2, 50)
        true, best = accuracies(rules, permuted(labels, np.arange(50), 99, int(found)))
        found += p_values(true, best).min() <= 0.05
    assert 3 <= found <= 27  # 15 expected; without correction nearly all


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 99),
)
def test_shuffling_keeps_every_label(pairs, seed):
    labels = np.unique([a for a, _ in pairs], return_inverse=True)[1]
    groups = np.unique([b for _, b in pairs], return_inverse=True)[1]
    found = permuted(labels, groups, 5, seed)
    assert found[0].tolist() == labels.tolist()
    assert all(sorted(row) == sorted(labels) for row in found.tolist())


def test_groups_are_shuffled_whole():
    groups = np.arange(60) % 12  # 12 groups of 5
    found = permuted((groups % 2).astype(int), groups, 50)
    assert all(len(set(row[groups == g])) == 1 for row in found for g in range(12))
    assert len({row.tobytes() for row in found}) > 40


def test_groups_that_are_not_independent_are_no_evidence():
    """A mark agrees with the label in 16 of 24 groups of 6: chance, but not if 144 items were free."""
    chance = random.Random(4)
    made = []
    for group in range(24):
        label = ("No", "Yes")[group % 2]
        marked = (label == "Yes") == (group % 6 < 4)
        text = [prose(chance) + ("!" if marked else "") for _ in range(6)]
        made += [Item(f"{group}.{i}", one, label, "all", str(group)) for i, one in enumerate(text)]
    assert not examine(made)["leak"]
    assert examine([Item(i.id, i.text, i.label, i.split) for i in made])["leak"]


def test_families_are_closed_under_similarity():
    chance = random.Random(3)
    first = prose(chance, 300).split()
    second = first[:230] + prose(chance, 70).split()
    third = second[70:] + prose(chance, 70).split()
    others = [prose(chance, 300) for _ in range(20)]
    texts = [" ".join(first), *others, " ".join(third), " ".join(second), "", ""]
    found = families(texts)
    assert found[0] == found[21] == found[22] == 0
    assert found[1:21] == list(range(1, 21)) and found[23:] == [21, 22]
    assert families([" ".join(first), " ".join(third)]) == [0, 1], "alike through the second only"


@given(st.lists(st.text("ab .", min_size=1, max_size=12), min_size=1, max_size=12))
def test_identical_texts_are_one_family(texts):
    found = families(texts + texts)
    for i, text in enumerate(texts):
        if re.search(r"\w", text):
            assert found[i] == found[len(texts) + i]


def test_duplicates_across_splits_and_labels_are_counted(tmp_path, capsys):
    chance = random.Random(6)
    story, other = prose(chance, 200), prose(chance, 200)
    variant = story + " And so it was."
    train = [{"t": story, "y": True}, {"t": variant, "y": False}, {"t": other, "y": True}]
    test = [{"t": variant, "y": True}, {"t": prose(chance), "y": False}, {"t": " ", "y": False}]
    words = [write(tmp_path / "train.jsonl", train), write(tmp_path / "test.jsonl", test)]
    assert run("audit", *words, "--text", "t", "--label", "y", "--max_words", 100, "--json") == 3
    result = json.loads(capsys.readouterr().out)
    found = result["duplicates"]
    assert (found["families"], found["items"], found["identical"]) == (1, 3, 1)
    assert (found["across_splits"], found["with_different_labels"]) == (2, 1)
    assert found["pairs_across_splits"] == [["train.jsonl:1", "test.jsonl:1"]]
    assert found["largest"][0]["splits"] == {"train": 2, "test": 1}
    assert result["lengths"]["empty"] == {"count": 1, "items": ["test.jsonl:3 (0 words)"]}
    assert result["lengths"]["over_max_words"]["count"] == 4
    assert result["labels"] == {"True": 3, "False": 3}
    assert result["verdict"].endswith("4 independent groups of the 6 items: " + FEW)


FEW = "nothing can be concluded from fewer than 20"


def test_what_cannot_be_searched_says_so():
    assert "one label only" in examine(items(40, labels=("Yes",)))["verdict"]
    numbers = [str(i) for i in range(40)]
    assert "40 different labels" in examine(items(40, labels=numbers))["verdict"]
    pair = examine([dataclasses.replace(one, group=str(i // 4)) for i, one in enumerate(items(40))])
    assert pair["verdict"].endswith("10 independent groups of the 40 items: " + FEW)
    three = examine(items(90, lambda text, label: text + label, labels=("a", "b", "c")))
    assert three["leak"] and three["search"]["leaks"][0]["accuracy"] == pytest.approx(2 / 3)


GOOD = {"t": "One.", "y": "Yes"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"t": "Two.", "y": 3}, "line 3: 'y' is a whole number ('3'), but text in .*line 1"),
        ({"t": ["Two."], "y": "No"}, "line 3: 't' is a list .*, but text in .*line 1"),
        ({"t": "Two.", "y": None}, "line 3: 'y' is null"),
        ({"t": "Two."}, "line 3: no field 'y'; the fields are ['t']"),
    ],
)
def test_mixed_lines_are_named(tmp_path, capsys, row, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(row)}\n")
    assert run("audit", path, "--text", "t", "--label", "y") == 2
    wanted = re.sub(r"([\[\]()])", r"\\\1", message)
    assert re.search(wanted, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "t"], "--text and --label must name the fields"),
        (["--text", "txt", "--label", "y"], "no field 'txt'; the fields are ['t', 'y']"),
        (["--text", "t", "--label", "y", "--task", "stories"], "either FILE.jsonl or --task"),
        (["--text", "t", "--label", "y", "--max_words", "0"], "--max_words is 0"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, capsys, words, message):
    path = write(tmp_path / "a.jsonl", [GOOD])
    assert run("audit", path, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_damaged_file_is_an_error(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + b"\0" * 100)
    assert run("audit", path, "--text", "t", "--label", "y") == 2
    assert "line 2: not JSON (it holds NUL bytes: the file is damaged)" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_stage_warns_until_its_examples_are_audited(tmp_path, capsys):
    """The command that the warning names makes it go away."""
    settings = EvalConfig(
        model="any",
        task_options={"events": 6, "size": 60},
        limit=10,
        run_dir=str(tmp_path / "a run"),
    )
    task = get_task("stories", {"events": 6, "size": 60})
    examples = task.examples("test")
    settings.warn_of(task, examples)
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("warning: this data was never audited")
    assert main(shlex.split(told.partition("Run: litereason ")[2])) == 0
    capsys.readouterr()
    settings.warn_of(task, examples[:20])
    assert capsys.readouterr().err == "", "a part of what was audited was audited"
    assert warning(tmp_path / "a run", get_task("stories").examples("test", 30))


def test_only_splits_that_were_read_are_listed(tmp_path, capsys):
    options = ["--task", "stories", "--limit", 9, "--run_dir", tmp_path]
    assert run("audit", *options, "--split", "test") == 3
    assert "9 items (test 9);" in capsys.readouterr().out
    assert run("audit", *options, "--split", "test,train") == 3
    assert "18 items (test 9, train 9);" in capsys.readouterr().out


def test_a_stage_warns_of_a_file_that_serves_every_split(tmp_path, capsys):
    rows = [{"story": f"Story {i}.", "answer": "Yes" if i % 2 else "No"} for i in range(40)]
    rows = [row | {"prompt": row["story"]} for row in rows]
    path, test = (write(tmp_path / name, rows) for name in ("all.jsonl", "test.jsonl"))

    def told(data, split="test", **options) -> str:
        settings = EvalConfig(model="any", split=split, run_dir=str(tmp_path), **options)
        settings.task_options |= {"data": str(data)}
        task = get_task(settings.task, settings.task_options)
        settings.warn_of(task, task.examples(split))
        return "".join(capsys.readouterr().err.split())  # long paths are broken anywhere

    assert f"{path}serveseverysplit:'test'holdstheitemsof'train'" in told(path, task="jsonl")
    assert "'train'holdstheitemsof'test'" in told(path, "train", task="jsonl")
    assert "serveseverysplit" in told(path, task="flawed_fictions")
    cut = {"splits": [1, 1, 1]}
    for unique in (
        told(path, task="flawed_fictions", task_options=cut),
        told(test, task="jsonl"),  # by its name
        told(tmp_path, task="jsonl"),
    ):
        assert "neveraudited" in unique and "serveseverysplit" not in unique


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"prompt": f"{i}?", "answer": i % 2} for i in range(10)], "10 independent items"),
        ([{"prompt": f"{i}?", "answer": 1} for i in range(30)], "one label only"),
        ([{"prompt": f"{i}?", "answer": i} for i in range(30)], "30 different labels"),
    ],
)
def test_what_concluded_nothing_is_no_pass_and_is_not_asked_for_again(tmp_path, capsys, rows, why):
    """Its exit status is neither that of clean data nor of a leak, and a stage says that it was none."""
    settings = EvalConfig(
        model="any",
        task="jsonl",
        task_options={"data": str(write(tmp_path / "test.jsonl", rows))},
        run_dir=str(tmp_path),
    )
    words = ["--task", "jsonl", "--task_options.data", tmp_path / "test.jsonl", "--split", "test"]
    assert run("audit", *words, "--run_dir", tmp_path) == 3
    assert "--group" not in capsys.readouterr().out, "that would not help"
    settings.warn_of(*settings.read())
    told = " ".join(capsys.readouterr().err.split())
    assert "concluded nothing" in told and why in told and "Run:" not in told


def test_templated_items_are_independent_if_one_says_so(tmp_path, capsys):
    """Questions that differ in a number are near-duplicates: the verdict names the way out, which works."""
    rows = [
        {"id": i, "half": i % 25, "answer": ["even", "odd"][i % 2], "prompt": template.format(i)}
        for i, template in enumerate(["Is it an even number or an odd number: {}"] * 50)
    ]
    path = write(tmp_path / "test.jsonl", rows)
    task = ["--task", "jsonl", "--task_options.data", path, "--split", "test"]
    task += ["--run_dir", tmp_path]
    assert run("audit", *task) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "1 independent group of the 50 items" in out and "audit again with --group FIELD" in out
    examples = get_task("jsonl", {"data": str(path)}).examples("test")
    assert "--group FIELD" in str(warning(tmp_path, examples))
    assert run("audit", *task, "--group", "id") != 3
    found = files.read_json(tmp_path / "audit" / "test" / "audit.json")
    assert found["groups"] == 50 and "concluded nothing" not in str(warning(tmp_path, examples))
    assert run("audit", path, "--text", "prompt", "--label", "answer", "--group", "prompt") != 3
    assert run("audit", *task, "--group", "half", "--name", "half") != 3
    assert files.read_json(tmp_path / "audit" / "half" / "audit.json")["groups"] == 25
    capsys.readouterr()
    assert run("audit", *task, "--group", "other") == 2
    assert "has the fields ['answer', 'half', 'id']" in " ".join(capsys.readouterr().err.split())


def test_a_directory_is_no_file(tmp_path, capsys):
    assert run("audit", tmp_path, "--text", "t", "--label", "y") == 2
    assert "isadirectory;expectedaJSONLinesfile" in "".join(capsys.readouterr().err.split())


def test_a_recipe_s_data_are_what_is_audited(tmp_path, capsys):
    rows = [
        {"prompt": one.text, "answer": one.label}
        for one in items(60, planted(lambda text: text + " THE END"))
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {path}\nrun_dir: {tmp_path / 'run'}\n")
    assert run("audit", "--config", recipe) == 1
    assert "THE END" in capsys.readouterr().out
    assert run("audit", "--data", path, "--run_dir", tmp_path / "other") == 1


def test_a_stage_warns_of_a_leak(tmp_path):
    rows = [
        {"id": str(i), "story": one.text, "answer": one.label}
        for i, one in enumerate(items(60, planted(lambda text: text + " THE END")))
    ]
    path = write(tmp_path / "train.jsonl", rows)
    options = ["--task", "flawed_fictions", "--task_options.data", path]
    assert run("audit", *options, "--run_dir", tmp_path) == 1
    examples = get_task("flawed_fictions", {"data": str(path)}).examples("train")
    assert "THE END" in str(warning(tmp_path, examples))


@pytest.mark.shared
def test_real_traces_tell_their_answer(shared_data, capsys):
    path = shared_data / "flawed_fictions" / "train_traces.jsonl"
    words = ["--text", "steps", "--label", "answer", "--group", "story_id", "--json"]
    assert run("audit", path, *words) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["groups"] < result["items"] == 605
    assert result["search"]["leaks"][0]["accuracy"] > 0.9


@pytest.mark.shared
def test_flawed_fictions_raw_and_cleaned(shared_data, capsys):
    path = shared_data / "flawed_fictions" / "train.jsonl"
    try:
        files.read_jsonl(path)
    except DataError as error:
        pytest.skip(f"the real stories cannot be read: {error}")
    words = ["--label", "answer", "--group", "family", "--json"]
    assert run("audit", path, "--text", "story_html", *words) == 1
    first = json.loads(capsys.readouterr().out)["search"]["leaks"][0]
    assert "'-------'" in first["text"] and 0.85 < first["accuracy"] < 0.95
    assert run("audit", path, "--text", "story", *words) == 0
    assert json.loads(capsys.readouterr().out)["search"]["leaks"] == []
