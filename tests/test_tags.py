"""Tags in token ids, against a reference that reads plain strings."""

import re

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from conftest import word_tokenizer
from litereason import models
from litereason.config import LatentConfig
from litereason.errors import LiteReasonError, ModelError
from litereason.tags import Tags, pending
from litereason.tasks.plot_holes import SILENT

WORDS = word_tokenizer()
NAMES = {i: name for name, i in WORDS.get_vocab().items()}
LATENT = WORDS.convert_tokens_to_ids("<|latent|>")
OPEN, CLOSE = "<implicit_thought>", "</implicit_thought>"
TAG = re.compile(rf"{OPEN}\s*([0-9]+)\s*{CLOSE}")
CAP = 7
TAGS = Tags(WORDS, LatentConfig(latent_token_id=LATENT, max_latent_steps=CAP))
token_ids = st.one_of(
    st.sampled_from([LATENT, *(WORDS.convert_tokens_to_ids([OPEN, CLOSE, "0", "3", "\n"]))]),
    st.integers(0, len(WORDS) - 1),
)
# Whole tags are frequent, so that half-finished thoughts are too.
sequences = st.lists(
    st.one_of(
        token_ids.map(lambda i: [i]),
        st.integers(0, 99).map(lambda n: ids_of(OPEN, *str(n), CLOSE)),
    ),
    max_size=12,
).map(lambda parts: [token for part in parts for token in part])


def ids_of(*names: str) -> list[int]:
    return WORDS.convert_tokens_to_ids(list(names))


def tag(n: int) -> str:
    return f"{OPEN}{n}{CLOSE}"


def owed(ids: list[int]) -> int:
    """The reference: what the positions after `ids` owe, from one string with \\0 for a slot."""
    text = "".join("\0" if i == LATENT else NAMES[i] for i in ids)
    found = re.search(TAG.pattern + r"(\0*)\Z", text)
    return max(0, min(int(found[1]), CAP) - len(found[2])) if found else 0


@pytest.fixture(scope="module")
def real() -> Tags:
    """Tags with a real tokenizer, in which a tag has a dozen tokens and `>` merges with more."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(models.get("smollm2-135m"))
    except (LiteReasonError, OSError) as error:
        pytest.skip(f"SmolLM2 cannot be had: {error}")
    latent = tokenizer.convert_tokens_to_ids("<empty_output>")
    return Tags(tokenizer, LatentConfig(latent_token_id=latent, max_latent_steps=CAP))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (tag(3), 3),
        (f" w1{OPEN}3{CLOSE}", 3),
        (f"{OPEN}05{CLOSE}", 5),
        (f"{OPEN}\n3\n{CLOSE}", 3),
        (f"{OPEN}99{CLOSE}", CAP),
        (f"{OPEN}{'9' * 40}{CLOSE}", CAP),
        (f"{OPEN}1{OPEN}2{CLOSE}", 2),
        (tag(1) + tag(2), 2),
        (tag(0), 0),
        (f"{OPEN}000{CLOSE}", 0),
        (f"{OPEN}{CLOSE}", 0),
        (f"{OPEN} w1{CLOSE}", 0),
        (f"{OPEN}1\n2{CLOSE}", 0),
        (f"{OPEN}3{OPEN}", 0),
        (f"3{CLOSE}", 0),
        (tag(3) + CLOSE, 0),
        (tag(3) + " w1", 0),
        ("<eos>", 0),
        ("", 0),
    ],
)
def test_words_the_last_token_closes_a_tag_or_not(text, steps):
    assert TAGS.closed_by(WORDS(text)["input_ids"]) == steps


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("So. <implicit_thought>3</implicit_thought>", [3]),
        ("<implicit_thought>3</implicit_thought>. And", [3]),
        ('"<implicit_thought>2</implicit_thought>" and', [2]),
        ("<implicit_thought>2</implicit_thought>\n\nThen", [2]),
        ("<implicit_thought>1</implicit_thought><implicit_thought>2</implicit_thought>", [1, 2]),
        ("<implicit_thought>7</implicit_thought> <implicit_thought>2</implicit_thought>\n", [7, 2]),
        ("<implicit_thought> 3 </implicit_thought>", [3]),
        ("<implicit_thought>300000000000</implicit_thought>", [CAP]),
        ("<implicit_thought>1<implicit_thought>2</implicit_thought>", [2]),
        ("<implicit_thought>number</implicit_thought>", []),
        ("<implicit_thought>three</implicit_thought>", []),
        ("<implicit_thought>-3</implicit_thought>", []),
        ("<implicit_thought>0</implicit_thought>", []),
        ("<implicit_thought></implicit_thought>", []),
        ("<implicit_thought>3<implicit_thought>", []),
        ("<implicit_thought>3</implicit thought>", []),
        ("<implicit_thought>٣</implicit_thought>", []),
        ("<implicit_thought>３</implicit_thought>", []),
        ("<implicit_thought>²</implicit_thought>", []),
        (SILENT, []),
    ],
)
def test_real_tags_get_their_slots(real, text, slots):
    assert slot_runs(real.expand(real.tokenizer(text)["input_ids"]), real) == slots


def slot_runs(ids: list[int], tags: Tags) -> list[int]:
    """Lengths of the runs of slots."""
    marks = "".join("L" if i == tags.latent_token_id else "." for i in ids)
    return [len(run) for run in re.findall("L+", marks)]


def test_real_slots_stand_right_after_the_merged_closing_token(real):
    text = "a <implicit_thought>2</implicit_thought>) b"
    ids = real.expand(real.tokenizer(text)["input_ids"])
    before = ids[: ids.index(real.latent_token_id)]
    assert real.tokenizer.decode(before).endswith("</implicit_thought>)")
    assert real.tokenizer.decode(ids[len(before) + 2 :]) == " b"


@given(
    st.lists(
        st.sampled_from(
            [
                OPEN,
                CLOSE,
                tag(0),
                tag(1),
                tag(5),
                tag(44),
                "<",
                ">",
                "2",
                " ",
                "\n",
                "a.",
                "é",
                "٣",
                "/",
            ]
        ),
        max_size=10,
    ).map("".join)
)
@example(f"{OPEN}1{CLOSE}{OPEN}2{CLOSE}{OPEN}3{CLOSE}")
def test_real_text_and_ids_agree_on_the_slots(real, text):
    ids = real.tokenizer(text)["input_ids"]
    expanded = real.expand(ids)
    wanted = [min(int(n), CAP) for n in TAG.findall(text) if int(n)]
    assert slot_runs(expanded, real) == wanted
    assert [i for i in expanded if i != real.latent_token_id] == ids
    assert real.expand(expanded) == expanded


@given(st.lists(st.sampled_from([tag(0), tag(3), "2", "é", " x", "\n", CLOSE]), max_size=6))
def test_real_pending_counts_down_from_any_text(real, parts):
    ids = real.tokenizer("".join(parts) + tag(3))["input_ids"]
    assert [real.pending(ids + [real.latent_token_id] * k) for k in range(5)] == [3, 2, 1, 0, 0]


@given(sequences)
def test_pending_agrees_with_the_text(ids):
    assert TAGS.pending(ids) == pending(ids, TAGS) == owed(ids)


@given(st.lists(sequences, min_size=1, max_size=4))
def test_pending_rows_agrees_with_pending(rows):
    width = max(1, *map(len, rows))
    padded = [[WORDS.pad_token_id] * (width - len(row)) + row for row in rows]
    found = TAGS.pending_rows(torch.tensor(padded))
    assert found.tolist() == [TAGS.pending(row) for row in padded]


def test_pending_rows_counts_down():
    rows = [ids_of(" w1", " w1", " w1", " w1", tag(3))[k:] + [LATENT] * k for k in range(5)]
    rows.append([LATENT] * 5)
    assert TAGS.pending_rows(torch.tensor(rows)).tolist() == [3, 2, 1, 0, 0, 0]


@given(sequences)
def test_expand_adds_slots_only_and_leaves_nothing_pending(ids):
    expanded = TAGS.expand(ids)
    assert [i for i in expanded if i != LATENT] == [i for i in ids if i != LATENT]
    assert TAGS.pending(expanded) == 0
    for k, token in enumerate(expanded):  # no discrete token comes while steps are owed
        assert token == LATENT or owed(expanded[:k]) == 0


@given(sequences)
def test_expand_is_idempotent(ids):
    expanded = TAGS.expand(ids)
    assert TAGS.expand(expanded) == expanded


@given(sequences)
def test_exactly_n_slots_stand_after_each_tag(ids):
    expanded = TAGS.expand([i for i in ids if i != LATENT])
    text = "".join("\0" if i == LATENT else NAMES[i] for i in expanded)
    runs = [(min(int(n), CAP), len(run)) for n, run in re.findall(TAG.pattern + "(\0*)", text)]
    assert all(n == run for n, run in runs)
    assert sum(run for _, run in runs) == text.count("\0")


def test_expand_completes_a_half_finished_thought():
    ids = [*ids_of(tag(3)), LATENT, *ids_of(" w1")]
    assert TAGS.expand(ids) == [*ids_of(tag(3)), LATENT, LATENT, LATENT, *ids_of(" w1")]
    assert TAGS.expand(ids[:2]) == [*ids_of(tag(3)), LATENT, LATENT, LATENT]


def test_a_slot_inside_a_tag_cuts_it():
    assert TAGS.closed_by([*ids_of(OPEN, "3"), LATENT, *ids_of(CLOSE)]) == 0
    assert TAGS.closed_by([*ids_of(OPEN), LATENT, *ids_of("3", CLOSE)]) == 0


def test_a_slot_inside_a_real_tag_cuts_it(real):
    ids = real.tokenizer(tag(3))["input_ids"]
    for k in range(1, len(ids)):
        assert real.closed_by([*ids[:k], real.latent_token_id, *ids[k:]]) == 0


def test_too_many_slots_owe_nothing():
    assert TAGS.pending([*ids_of(tag(1)), LATENT, LATENT]) == 0


def test_text_writes_what_closed_by_reads(real):
    assert [real.closed_by(real.tokenizer(real.text(n))["input_ids"]) for n in (1, 4, 7)] == [
        1,
        4,
        7,
    ]


def test_tags_need_a_latent_id():
    with pytest.raises(ModelError, match="latent_token_id"):
        Tags(WORDS, LatentConfig())
