"""Sentences that restate the prompt: which are left out, and that nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import files
from litereason.cli import main
from litereason.errors import ConfigError
from litereason.pruning import prune, restated
from litereason.stages import CollectConfig

pytest.importorskip("pysbd")
pytest.importorskip("rapidfuzz")

PROMPT = "1. Otto owned the lantern at first.\n2. Ilse died.\nDoes this contradict itself? Answer."
TEXT = (
    "\n1. Otto lantern\n2. reads: Ilse died.\n2. Ilse dead\nThe LANTERN! Otto died.\n\n...\nOtto "
    "\\boxed{No}\n"
)


def test_the_share_is_that_of_the_best_source():
    sources = ["ab", "bcd"]
    for said, share in (
        *(("b", 1), ("bc", 1), ("cb", 1 / 2), ("bd", 1), ("db", 1 / 2)),
        *(("ad", 1 / 2), ("bcx", 2 / 3), ("xx", 0), ("aab", 2 / 3)),
    ):
        assert restated(said, sources) == share, said
    assert restated("", sources) == 0 and restated("a", []) == 0


@pytest.mark.parametrize(
    ("share", "out"),
    [
        (1.0, ["1. Otto lantern\n", "The LANTERN! "]),
        (0.7, ["1. Otto lantern\n", "2. reads: Ilse died.\n", "The LANTERN! "]),  # 3 of 4 words
        (
            0.5,
            [
                "1. Otto lantern\n",
                "2. reads: Ilse died.\n",
                "2. Ilse dead\n",
                "The LANTERN! ",
                "Otto died.\n",
            ],
        ),
    ],
)
def test_what_restates_a_sentence_is_left_out_and_the_rest_stays(share, out):
    expected = TEXT
    for sentence in out:
        assert sentence in expected
        expected = expected.replace(sentence, "", 1)
    assert prune(TEXT, PROMPT, share) == (expected, 6, len(out))


def test_a_share_must_be_reached_in_one_sentence():
    assert prune("Otto died.\nNo", PROMPT, 1.0) == ("Otto died.\nNo", 1, 0)


def test_who_gave_to_whom_is_a_matter_of_order():
    given = "Mara gave the rope to Otto."
    assert prune("Mara gave Otto.\nNo", given, 1.0)[2] == 1
    assert prune("Otto gave Mara the rope.\nNo", given, 1.0)[2] == 0


def test_thoughts_and_answers_stay():
    text = "<implicit_thought>1</implicit_thought>\nOtto lantern\n\\boxed{Otto}"
    assert prune(text, PROMPT + " implicit_thought", 0.1)[0] == text.replace("Otto lantern\n", "")


@given(st.text(alphabet="ab .!\n", max_size=60), st.text(alphabet="ab .!\n", max_size=60))
def test_any_text_keeps_its_order_and_what_the_prompt_lacks(text, prompt):
    left, there, out = prune(text, prompt, 1.0)
    rest = iter(text)
    assert all(letter in rest for letter in left), "pieces of the text, in order"
    assert 0 <= out <= there and (out > 0 or left == text)
    assert prune(text, "", 1.0)[0] == text


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_shares_that_cannot_be_are_refused(share):
    with pytest.raises(ConfigError, match="expected a share above 0, at most 1"):
        CollectConfig(model="anything", prune=share)


@pytest.mark.parametrize("source", [["--demonstrations"], ["--samples", 8]])
def test_collected_traces_are_pruned(tiny_base, tmp_path, capsys, source):
    told = ["collect", "--model", tiny_base, "--run_dir", tmp_path, "--limit", 10, *source]
    told += ["--max_new_tokens", 60, "--batch_size", 20, "--temperature", 1, "--top_p", 1]
    for name, more in (("whole", []), ("pruned", ["--prune", 0.3])):
        assert main([str(word) for word in [*told, "--name", name, *more]]) == 0
    whole, pruned = (
        files.read_jsonl(tmp_path / "collect" / name / "traces.jsonl")
        for name in ("whole", "pruned")
    )
    assert [row["item"] for row in pruned] == [row["item"] for row in whole]
    assert all(
        len(a["completion"]) <= len(b["completion"]) for a, b in zip(pruned, whole, strict=True)
    )
    summary = files.read_json(tmp_path / "collect" / "pruned" / "summary.json")
    assert 0 < summary["left_out"] <= summary["sentences"] and pruned != whole
    told = capsys.readouterr().err
    assert f"left out {summary['left_out']} of {summary['sentences']}" in " ".join(told.split())
