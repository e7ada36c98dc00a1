"""Tags, completions and streams against one slow reading of the bytes, over odd texts and tokenizers."""

import io
import itertools
import re

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from conftest import word_tokenizer
from litereason.config import LatentConfig
from litereason.generation import read_completion
from litereason.streaming import DOT, LatentStreamer
from litereason.tags import Tags

CAP = 7
OPEN, CLOSE = "<implicit_thought>", "</implicit_thought>"
SPACE = b"|".join(chr(c).encode() for c in range(0x3001) if chr(c).isspace())
TAG = re.compile(rb"<implicit_thought>(?:%b)*([0-9]+)(?:%b)*</implicit_thought>" % (SPACE, SPACE))
NUMBERS = [
    *("0", "1", "2", "3", "7", "8", "007", "00", "999999999999999", "-3", "+1", "1.0", "1 2", ""),
    *(" 3 ", "\n2\t", "\u00a04", "٣", "３", "²", "3\u200b", "three", "<", ">"),
]
numbered = st.sampled_from(NUMBERS).map(lambda n: f"{OPEN}{n}{CLOSE}")
nested = st.sampled_from([f"{OPEN}1{OPEN}2{CLOSE}", f"{OPEN}1{CLOSE}{CLOSE}", f"{OPEN}{OPEN}3"])
filler = st.sampled_from(
    [*("<", ">", ">>", "></", "/", " ", "\n", ". ", "a", "é", "。", "😀", "3", " w1"), OPEN, CLOSE]
)
texts = st.lists(st.one_of(numbered, numbered, nested, filler), max_size=5).map("".join)


def byte_tokenizer(words_apart: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE; tags are cut in many ways, `>` merges with what follows (or comes before)."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words_apart)
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    corpus = [f"{OPEN}3{CLOSE}\n", f"{OPEN}1{CLOSE}{OPEN}2{CLOSE}. é", f"x></b>>\n {OPEN}"]
    corpus += [f"{CLOSE}) a{CLOSE}.{OPEN}", "。。é> "]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<eos>", "<|latent|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=None if words_apart else 4,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus * 9, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", extra_special_tokens=["<|latent|>"]
    )


class Reader:
    """A tokenizer, its `Tags`, and the reference: the bytes of the text with `\\0` for slots."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, byte_level: bool) -> None:
        self.tokenizer = tokenizer
        self.latent = tokenizer.convert_tokens_to_ids("<|latent|>")
        self.tags = Tags(tokenizer, LatentConfig(latent_token_id=self.latent, max_latent_steps=CAP))
        back = {character: byte for byte, character in bytes_to_unicode().items()}
        self.bytes = {
            i: bytes(back[c] for c in name)
            if byte_level and not name.startswith("<|") and name != "<eos>"
            else name.encode()
            for name, i in tokenizer.get_vocab().items()
        }

    def announced(self, ids: list[int]) -> list[int]:
        """For each position the clamped N of the tag that it completes, 0 for none.

        A slot stands after the `>` that closes its tag, before what a tokenizer merged into it.
        """
        text, rest, found = b"", b"", []
        for token in ids:
            steps = 0
            if token == self.latent:
                text += b"\0"
            else:
                text, before = text + rest, len(text + rest)
                text, rest = text + self.bytes[token], b""
                for tag in TAG.finditer(text):
                    if tag.end() > before:
                        steps = min(int(tag[1]), CAP)
                        rest = text[tag.end() :]
                text = text[: len(text) - len(rest)]
            found.append(steps)
        return found

    def owed(self, ids: list[int]) -> int:
        """What the positions after `ids` owe."""
        *_, (start, slots, steps) = [(0, 0, 0), *self.runs(ids)]
        if slots and start + slots == len(ids):
            return max(0, steps - slots)
        return self.announced(ids)[-1] if ids else 0

    def cuts_a_merged_opening(self, ids: list[int]) -> bool:
        """Whether a slot that no tag announces follows a `><`: see the test of that name."""
        loose = [start - 1 for start, _, steps in self.runs(ids) if start and not steps]
        return any(re.search(rb">.*<", self.bytes[ids[k]]) for k in loose)

    def runs(self, ids: list[int]) -> list[tuple[int, int, int]]:
        """(start, slots, announced steps) of every run of slots."""
        steps = [0, *self.announced(ids)]
        marks = "".join("L" if i == self.latent else "." for i in ids)
        return [(m.start(), len(m[0]), steps[m.start()]) for m in re.finditer("L+", marks)]


READERS = [Reader(word_tokenizer(), False)]
READERS += [Reader(byte_tokenizer(words_apart), True) for words_apart in (True, False)]


@st.composite
def records(draw, slots: bool = True) -> tuple[Reader, list[int]]:
    """A tokenizer and ids: text, single tokens, and runs of slots anywhere."""
    reader = draw(st.sampled_from(READERS))
    ids: list[int] = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["text", "text", "slots", "token"]))
        if kind == "text":
            ids += reader.tokenizer(draw(texts))["input_ids"]
        elif kind == "slots" and slots:
            ids += [reader.latent] * draw(st.integers(1, CAP + 2))
        elif kind == "token":
            ids.append(draw(st.integers(0, len(reader.tokenizer) - 1)))
    if slots and ids and draw(st.booleans()):
        ids.insert(draw(st.integers(0, len(ids))), reader.latent)
    assume(not reader.cuts_a_merged_opening(ids))
    return reader, ids if slots else [i for i in ids if i != reader.latent]


@given(records())
@settings(max_examples=150)
def test_pending_and_unexplained_agree_with_the_bytes(record):
    reader, ids = record
    for end in range(len(ids) + 1):
        assert reader.tags.pending(ids[:end]) == reader.owed(ids[:end])
        assert reader.tags.pending(tuple(ids[:end])) == reader.owed(ids[:end])
    wrong = [start + steps for start, slots, steps in reader.runs(ids) if slots > steps]
    assert reader.tags.unexplained(ids) == (wrong[0] if wrong else None)


def test_a_slot_that_cuts_a_merged_opening_cuts_the_tag():
    reader = READERS[1]
    names = ["x", "><", "<|latent|>", "implicit", "_", "thought", ">", "3"]
    names += ["</", "implicit", "_", "thought", ">"]
    ids = reader.tokenizer.convert_tokens_to_ids(names)
    assert reader.cuts_a_merged_opening(ids)
    assert reader.tags.pending(ids) == reader.announced(ids)[-1] == 0


@given(records(), st.data())
@settings(max_examples=60)
def test_pending_rows_is_pending_of_each_row(record, data):
    reader, ids = record
    cuts = data.draw(st.lists(st.integers(0, len(ids)), min_size=1, max_size=5))
    filler = reader.tokenizer.eos_token_id
    rows = [[filler] * (len(ids) + 1 - cut) + ids[:cut] for cut in cuts]
    found = reader.tags.pending_rows(torch.tensor(rows))
    assert found.tolist() == [reader.tags.pending(row) for row in rows]


@given(records())
@settings(max_examples=150)
def test_expand_fills_up_every_thought(record):
    reader, ids = record
    expanded, expected = reader.tags.expand(ids), []
    for k, token in enumerate(ids):
        expected.append(token)
        if ids[k + 1 : k + 2] != [reader.latent]:
            expected += [reader.latent] * reader.owed(ids[: k + 1])
    assert expanded == expected
    assert reader.tags.expand(expanded) == expanded
    assert reader.tags.pending(expanded) == 0
    if reader.tags.unexplained(ids) is None:
        assert reader.tags.unexplained(expanded) is None
        assert reader.tags.expand([i for i in ids if i != reader.latent]) == expanded


@given(records(slots=False))
def test_a_record_is_restored_from_its_text(record):
    reader, ids = record
    expanded = reader.tags.expand(ids)
    assert reader.tags.unexplained(expanded) is None
    assert all(slots == steps for _, slots, steps in reader.runs(expanded))
    assert [i for i in expanded if i != reader.latent] == ids
    wanted = [steps for steps in reader.announced(ids) if steps]
    assert [slots for _, slots, _ in reader.runs(expanded)] == wanted
    plain = reader.tokenizer.decode(ids, skip_special_tokens=True)
    assert read_completion(expanded, reader.tokenizer, reader.tags).text == plain


@given(records(), st.integers(1, CAP))
def test_a_limit_is_a_lower_clamp(record, limit):
    reader, ids = record
    tags = reader.tags.limited(limit)
    for end in range(len(ids) + 1):
        assert tags.closed_by(ids[:end]) == min(limit, reader.tags.closed_by(ids[:end]))


def test_a_limit_reads_the_same_tags():
    reader = READERS[0]
    ids = reader.tokenizer(f"{OPEN}" + "\n" * 64 + f"3{CLOSE}")["input_ids"]
    assert bool(reader.tags.closed_by(ids)) == bool(reader.tags.limited(1).closed_by(ids))


@given(records())
@settings(max_examples=150)
def test_spans_are_the_record_in_stretches(record):
    reader, ids = record
    completion = read_completion(ids, reader.tokenizer, reader.tags)
    spans = completion.spans
    assert [token for span in spans for token in span.ids] == ids == list(completion.ids)
    assert completion.discrete_tokens + completion.latent_steps == len(ids)
    assert completion.latent_steps == ids.count(reader.latent)
    assert completion.thoughts == sum(span.kind == "latent" for span in spans)
    runs = {start: (slots, steps) for start, slots, steps in reader.runs(ids)}
    assert completion.thoughts == len(runs)
    start = 0
    for k, span in enumerate(spans):
        assert span.ids and {i == reader.latent for i in span.ids} == {span.kind == "latent"}
        if span.kind == "latent":
            slots, steps = runs[start]
            assert len(span.ids) == slots and span.text == ""
            announced = bool(k) and spans[k - 1].kind == "tag"
            assert announced == (steps > 0)
            if announced:
                number = re.findall(rf"([0-9]+)\s*{CLOSE}", spans[k - 1].text)[-1]
                assert min(int(number), CAP) == steps
        elif span.kind == "tag":
            assert spans[k + 1].kind == "latent"
        else:
            assert k + 1 == len(spans) or spans[k + 1].kind != "discrete"
        start += len(span.ids)


def streamed(reader: Reader, chunks: list[list[int]]) -> str:
    out = io.StringIO()
    streamer = LatentStreamer(reader.tokenizer, reader.tags, out)
    streamer.put(torch.tensor([[5, reader.latent, 6]]))  # the prompt is not shown
    for chunk in chunks:
        streamer.put(torch.tensor(chunk))
    streamer.end()
    return out.getvalue()


def shown(reader: Reader, ids: list[int]) -> str:
    spans = read_completion(ids, reader.tokenizer, reader.tags).spans
    return "".join(DOT * len(s.ids) if s.kind == "latent" else s.text for s in spans) + "\n"


@given(records(slots=False))
def test_a_stream_shows_the_completion(record):
    reader, ids = record
    ids = reader.tags.expand(ids)
    assert streamed(reader, [[token] for token in ids]) == shown(reader, ids)


@given(records(slots=False), st.data())
def test_a_stream_in_chunks_shows_the_completion(record, data):
    reader, ids = record
    ids = reader.tags.expand(ids)
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=5))
    bounds = itertools.pairwise(sorted({0, *cuts, len(ids)}))
    assert streamed(reader, [ids[start:end] for start, end in bounds]) == shown(reader, ids)


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral: `▁` for spaces, the first one of a text dropped in decoding."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(marks)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[a-z_]+|▁?[^a-z_▁]|▁"), "isolated")
    space, first = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([space, decoders.Fuse(), first])
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "<|latent|>"], show_progress=False)
    tokenizer.train_from_iterator([f"So it goes {OPEN}12{CLOSE} and on."], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", extra_special_tokens=["<|latent|>"]
    )


def test_spaces_after_a_thought_stay_with_a_sentencepiece_tokenizer():
    reader = Reader(sentencepiece_tokenizer(), False)
    text = f"So it goes {OPEN}2{CLOSE} and on {OPEN}1{CLOSE} so."
    ids = reader.tags.expand(reader.tokenizer(text)["input_ids"])
    assert ids.count(reader.latent) == 3
    assert read_completion(ids, reader.tokenizer, reader.tags).text == text
    out = streamed(reader, [[token] for token in ids])
    assert out.replace(DOT, "") == text + "\n"
