"""The record of a completion: `read_completion` cuts ids into spans."""

from hypothesis import given
from hypothesis import strategies as st

from conftest import word_tokenizer
from litereason.config import LatentConfig
from litereason.generation import Completion, read_completion
from litereason.tags import Tags

WORDS = word_tokenizer()
LATENT = WORDS.convert_tokens_to_ids("<|latent|>")
TAGS = Tags(WORDS, LatentConfig(latent_token_id=LATENT))
ENDS = [WORDS.eos_token_id, WORDS.pad_token_id]
ONE, TWO, NONE = (f"<implicit_thought>{n}</implicit_thought>" for n in (1, 2, 0))


def read(*names: str, tags: Tags | None = TAGS) -> Completion:
    """Read tokens by name; `L` is a latent slot."""
    names = ["<|latent|>" if name == "L" else name for name in names]
    return read_completion(WORDS.convert_tokens_to_ids(names), WORDS, tags, ENDS)


def told(completion: Completion) -> list[tuple[str, str | int]]:
    """Spans as (kind, text), latent ones as (kind, steps)."""
    return [
        (span.kind, len(span.ids) if span.kind == "latent" else span.text)
        for span in completion.spans
    ]


def test_a_thought_in_the_middle_makes_four_spans():
    completion = read(" w1", " w2", TWO, "L", "L", " w3", "<eos>")
    assert told(completion) == [
        ("discrete", " w1 w2"),
        ("tag", TWO),
        ("latent", 2),
        ("discrete", " w3"),
    ]
    assert completion.text == f" w1 w2{TWO} w3"
    assert (completion.discrete_tokens, completion.latent_steps, completion.thoughts) == (4, 2, 1)


def test_a_tag_of_many_tokens_is_one_span():
    completion = read(" w1", "<implicit_thought>", "1", "\n", "</implicit_thought>", "L", " w3")
    assert told(completion)[:3] == [
        ("discrete", " w1"),
        ("tag", "<implicit_thought>1\n</implicit_thought>"),
        ("latent", 1),
    ]


def test_two_thoughts_in_a_row():
    completion = read(TWO, "L", "L", ONE, "L")
    assert told(completion) == [("tag", TWO), ("latent", 2), ("tag", ONE), ("latent", 1)]
    assert (completion.thoughts, completion.discrete_tokens) == (2, 2)


def test_a_thought_that_the_prompt_began():
    completion = read("L", "L", " w1")
    assert told(completion) == [("latent", 2), ("discrete", " w1")]
    assert completion.thoughts == 1


def test_a_tag_that_the_prompt_began_is_discrete():
    completion = read("1", "</implicit_thought>", "L", " w1")
    assert told(completion)[:2] == [("discrete", "1</implicit_thought>"), ("latent", 1)]


def test_a_tag_without_steps_is_discrete():
    assert told(read(" w1", NONE, " w2")) == [("discrete", f" w1{NONE} w2")]


def test_an_end_token_cuts_and_is_no_truncation():
    for end in ("<eos>", "<pad>"):
        completion = read(" w1", end, "<pad>", " w9")
        assert (completion.ids, completion.truncated) == (read(" w1").ids, False)


def test_no_end_token_is_truncation():
    assert read(" w1", ONE, "L").truncated


def test_an_end_token_at_once_leaves_nothing():
    completion = read("<eos>")
    assert (completion.ids, completion.spans, completion.text) == ((), (), "")
    assert not completion.truncated


def test_without_tags_all_is_discrete():
    completion = read(" w1", TWO, "L", tags=None)
    assert (completion.discrete_tokens, completion.latent_steps) == (3, 0)
    assert told(completion) == [("discrete", f" w1{TWO}")]


@given(st.lists(st.one_of(st.just(LATENT), st.integers(0, len(WORDS) - 1)), max_size=30))
def test_spans_are_the_completion_in_stretches(ids):
    completion = read_completion(ids, WORDS, TAGS, ENDS)
    stop = next((k for k, token in enumerate(ids) if token in ENDS), len(ids))
    joined = [token for span in completion.spans for token in span.ids]
    assert joined == list(completion.ids) == ids[:stop]
    assert completion.latent_steps == joined.count(LATENT)
    assert completion.discrete_tokens + completion.latent_steps == len(joined)
    plain = [token for token in joined if token != LATENT]
    assert completion.text == WORDS.decode(plain, skip_special_tokens=True)


@given(st.lists(st.sampled_from([TWO, ONE, NONE, " w1", "<implicit_thought>", "2"]), max_size=12))
def test_every_span_has_its_kind(names):
    ids = TAGS.expand(WORDS.convert_tokens_to_ids(names))
    spans = read_completion(ids, WORDS, TAGS).spans
    for before, span in zip((None, *spans), spans, strict=False):
        assert span.ids and {i == LATENT for i in span.ids} == {span.kind == "latent"}
        if span.kind == "latent":
            assert before.kind == "tag" and TAGS.closed_by(before.ids) == len(span.ids)
        else:
            assert span.kind != "discrete" or before is None or before.kind == "latent"
    assert sum(span.kind == "tag" for span in spans) == names.count(ONE) + names.count(TWO)
