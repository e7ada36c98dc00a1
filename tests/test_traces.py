"""From traces to training rows: which sentences become thoughts, and where the loss is."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import word_tokenizer
from litereason.config import LatentConfig
from litereason.errors import ConfigError, DataError
from litereason.tags import Tags
from litereason.traces import (
    Replacement,
    make_row,
    replaceable,
    split_sentences,
    tokens_of,
    training_rows,
    with_thoughts,
)

pytest.importorskip("pysbd")

WORDS = word_tokenizer()
LATENT = WORDS.convert_tokens_to_ids("<|latent|>")
TAGS = Tags(WORDS, LatentConfig(latent_token_id=LATENT))
TAG = re.compile(r"<implicit_thought>(\d+)</implicit_thought>")
BOX = "\\boxed{Yes}"
WORDY = [
    "Mr. Fox ran. ",
    "He fell! ",
    "e.g. this",
    'He said "Why?" ',
    "A.B. ",
    "x = 1.5. ",
    "¿Qué? ",
]
SPACES = [" ", "\n", "\n\n", "\r\n", "\t", "\x0c", "\u2028", "\u00a0"]
pieces = st.sampled_from([*WORDY, *SPACES, BOX, "3. ", "... ", "é ", "。", ") "])
texts = st.one_of(st.lists(pieces, max_size=12).map("".join), st.text(max_size=40))
# A sentence a line, a token a digit, so that what was replaced can be read off the result.
lines = st.lists(st.text("0123456789", min_size=1, max_size=40), min_size=2, max_size=8)


def thought(text: str, share: float, ratio: float = 0.2, seed: int = 0) -> str:
    return with_thoughts(text, share, ratio, WORDS, TAGS, random.Random(seed))[0]


@given(texts)
def test_sentences_joined_are_the_text(text):
    assert "".join(split_sentences(text)) == text


def test_sentences_end_at_stops_and_line_ends():
    text = 'Mr. Fox ran. "Why?" he said! It is 1.5 m.\n\n2. Next line\n\\boxed{No}'
    assert [s.strip() for s in split_sentences(text)] == [
        "Mr. Fox ran.",
        '"Why?" he said!',
        "It is 1.5 m.",
        "",
        "2. Next line",
        "\\boxed{No}",
    ]


@pytest.mark.parametrize(
    ("sentences", "indices"),
    [
        (["A.", " ", "B.", BOX, "Since C.", "D."], [0, 2]),
        (["A.", BOX, "B.", BOX], [0, 1, 2]),  # the last box counts
        (["A.", "B."], [0]),  # no box: the last sentence is the answer
        (["A.", "B.\n", "\n", " "], [0]),
        ([BOX, "A."], []),
        (["A."], []),
        ([" "], []),
        ([], []),
        (["A.", "<implicit_thought>2</implicit_thought>", "B.", BOX], [0, 2]),
    ],
)
def test_replaceable_leaves_out_answer_blanks_and_tags(sentences, indices):
    assert replaceable(sentences) == indices


@given(lines, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_thoughts_stand_for_a_share_of_the_sentences(body, share, ratio, seed):
    text = "\n".join([*body, BOX])
    found = thought(text, share, ratio, seed).split("\n")
    assert len(found) == len(body) + 1 and found[-1] == BOX
    replaced = 0
    for before, after in zip(body, found, strict=False):
        if after != before:
            replaced += 1
            steps = max(1, min(5, int(ratio * len(before))))
            assert after == f"<implicit_thought>{steps}</implicit_thought>"
    assert replaced == max(1, round(share * len(body)))


@given(texts, st.floats(0, 1), st.integers(0, 9))
def test_the_answer_is_never_replaced(text, share, seed):
    changed = thought(f"{text}\nSo {BOX}", share, 1.0, seed)
    assert changed.endswith(f"\nSo {BOX}")


@given(texts)
def test_share_zero_changes_nothing(text):
    assert thought(text, 0) == text


def test_share_one_replaces_all_but_the_answer_and_the_spaces():
    changed = thought(f" w1 w2\n\n  w3 \n{BOX}\nafter", 1)
    tag = "<implicit_thought>1</implicit_thought>"
    assert changed == f" {tag}\n\n  {tag} \n{BOX}\nafter"


def test_a_tokenizer_that_knows_no_places_is_asked_by_the_sentence():
    slow = type(
        "Slow", (), {"is_fast": False, "__call__": lambda _, text, **kw: {"input_ids": [len(text)]}}
    )()
    assert tokens_of(" ab\n c", [" ab\n", " c"], slow) == [[2], [1]]


@given(texts)
def test_every_word_belongs_to_its_sentence_as_the_text_has_it(text):
    sentences = split_sentences(text)
    found = tokens_of(text, sentences, WORDS)
    encoded = WORDS(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces = [*zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]
    start, expected = 0, []
    for sentence in sentences:
        places = {start + k for k, letter in enumerate(sentence) if not letter.isspace()}
        core = range(min(places, default=0), max(places, default=-1) + 1)
        start += len(sentence)
        expected.append([i for i, (a, b) in pieces if {*range(a, b)} & {*core}])
    assert found == expected


def test_a_text_of_one_sentence_is_left_alone():
    assert thought(" w1 w2", 1) == " w1 w2"


@pytest.mark.parametrize(("tokens", "steps"), [(1, 1), (9, 1), (10, 2), (24, 4), (25, 5), (90, 5)])
def test_one_step_for_five_tokens_up_to_five(tokens, steps):
    changed = thought("7" * tokens + f"\n{BOX}", 1)
    assert changed == f"<implicit_thought>{steps}</implicit_thought>\n{BOX}"


def test_of_repeated_sentences_the_chosen_one_is_replaced():
    places = set()
    for seed in range(40):
        found = thought(f" w1\n w1\n w1\n w1\n{BOX}", 0.25, seed=seed).split("\n")
        assert [line for line in found if not TAG.search(line)] == [" w1"] * 3 + [BOX]
        places.add(next(i for i, line in enumerate(found) if TAG.search(line)))
    assert places == {0, 1, 2, 3}


def test_a_sentence_inside_another_is_replaced_at_its_own_place():
    text = f" w1 w2 w1\n w1\n{BOX}"
    found = {thought(text, 0.5, seed=seed) for seed in range(20)}
    tag = "<implicit_thought>1</implicit_thought>"
    assert found == {f" {tag}\n w1\n{BOX}", f" w1 w2 w1\n {tag}\n{BOX}"}


ROW = [10, 38, LATENT, LATENT, 11, 38, LATENT, 12]


@pytest.mark.parametrize(
    ("loss_after", "labels"),
    [
        ("first", [-100, -100, -100, -100, 11, 38, -100, 12]),
        ("last", [-100, -100, -100, -100, -100, -100, -100, 12]),
        ("prompt", [10, 38, -100, -100, 11, 38, -100, 12]),
    ],
)
def test_loss_is_on_text_after_the_first_or_last_thought(loss_after, labels):
    row = make_row([1, 20, LATENT], ROW, loss_after, TAGS)
    assert row == {"input_ids": [1, 20, LATENT, *ROW], "labels": [-100] * 3 + labels}


def test_a_row_without_a_thought_has_loss_everywhere_or_is_none():
    assert make_row([1], [10, 11], "first", TAGS) is None
    assert make_row([1], [10, 11], "last", TAGS) is None
    for tags in (TAGS, None):
        row = make_row([1], [10, 11], "prompt", tags)
        assert row == {"input_ids": [1, 10, 11], "labels": [-100, 10, 11]}


TRACE = " w1 w2\n w3 w4\n w5\n w6\n w7"


def rows_of(how: Replacement, traces=(([1, 20], TRACE),), **options) -> list[dict]:
    return training_rows(traces, how, WORDS, TAGS, **options)


def test_shares_between_0_and_1_make_copies_and_the_others_one_row():
    how = Replacement(shares=(0, 0.25, 0.5, 1), copies=3, loss_after="prompt")
    slots = [row["input_ids"].count(LATENT) for row in rows_of(how)]
    assert slots == [0, 1, 1, 1, 2, 2, 2, 4]


def test_rows_are_prompt_expanded_text_and_end_of_sequence():
    prompt, tag = [1, 20], "<implicit_thought>1</implicit_thought>"
    (row,) = rows_of(Replacement(shares=(1,)))
    text = " " + f"{tag}\n " * 3 + f"{tag}\n w7"
    ids = [token for part in text.split(tag) for token in (*WORDS(part)["input_ids"], -1, LATENT)]
    tag_id = WORDS.convert_tokens_to_ids(tag)
    expected = [tag_id if token == -1 else token for token in ids[:-2]]
    assert row["input_ids"] == [*prompt, *expected, WORDS.eos_token_id]
    first = row["input_ids"].index(LATENT)
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    assert all(
        label == (-100 if k < first or token == LATENT else token)
        for k, (token, label) in enumerate(pairs)
    )


def test_rows_without_a_thought_are_left_out():
    assert len(rows_of(Replacement(shares=(0, 1)))) == 1
    with pytest.raises(DataError, match="without a sentence to replace"):
        rows_of(Replacement(), traces=[([1], " w1")])


def test_rows_longer_than_max_length_are_left_out():
    how = Replacement(shares=(1,))
    (row,) = rows_of(how)
    length = len(row["input_ids"])
    short = ([1], " w1\n w2")
    rows = rows_of(how, traces=[([1, 20], TRACE), short], max_length=length - 1)
    assert [row["input_ids"][:2] for row in rows] == [[1, rows[0]["input_ids"][1]]]
    assert rows_of(how, max_length=length) == [row]
    with pytest.raises(DataError, match=f"max_length={length - 1}"):
        rows_of(how, max_length=length - 1)


def test_rows_are_those_of_the_seed():
    how = Replacement(shares=(0.25,))
    assert rows_of(how, seed=1) == rows_of(how, seed=1) != rows_of(how, seed=2)


@pytest.mark.parametrize(
    "settings", [{"shares": ()}, {"shares": (1.5,)}, {"shares": (-0.1,)}, {"loss_after": "second"}]
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Replacement(**settings)


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
