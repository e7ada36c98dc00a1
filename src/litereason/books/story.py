"""What writers are asked for, and the next-chapter pairs made of it (arXiv 2503.22828).

Chapter summaries are the base. Every `FAN` of them become one, every `FAN` of those again: a tree. "The
story so far" of a pair is the few nodes that cover exactly the chapters before it, so pairs share nearly
all of the work, the text grows with the logarithm of the chapters, and no node knows what comes later. No
prompt names the book or its author: a writer that knows the novel by heart should not tell what it has not
read.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from litereason.books.filters import prompt_too_long
from litereason.books.novels import Novel
from litereason.books.writers import Request, Scribe, Writer, most_tokens
from litereason.errors import ConfigError

FAN = 4  # summaries that become one
WORDS = {
    "summary": 80,
    "plot": 150,
    "character": 40,
    "synopsis": 30,
}  # of each text that is written
AROUND = 200  # tokens: the instruction and the chat template around a text

SUMMARY = (
    "{text}\n\nTell in at most {words} words what happens in this {what}: who does what, and how it ends. "
    "Write only the summary."
)
CONDENSE = (
    "{text}\n\nThese are summaries of consecutive chapters of a novel. Make one summary of them in at most "
    "{words} words, in the order of events, with the names. Write only the summary."
)
PLOT = (
    "{text}\n\nThis is a whole novel in summary. Write its plot from beginning to end in at most {words} "
    "words, without details. Write only the plot."
)
CHARACTER = (
    "{text}\n\nThis is a novel so far. Who is {name}, what does {name} want, and how does {name} stand to "
    "the others? Answer in at most {words} words."
)
SYNOPSIS = (
    "{text}\n\nSay in one sentence of at most {words} words what happens here. Write only the "
    "sentence."
)

_NAME = r"(?:(?:Mr|Mrs|Ms|Dr|St)\.? )?[A-Z][a-z’'-]*[a-z](?: [A-Z][a-z’'-]*[a-z])?"
_VERBS = (
    "said", "says", "had", "was", "is", "would", "could", "did", "looked", "thought",
    "replied", "asked", "cried", "answered", "went", "came", "took", "made", "saw", "turned",
    "seemed", "knew", "felt", "began", "told", "sat", "stood", "returned", "continued",
    "exclaimed",
)  # fmt: skip
_ACTS = re.compile(
    rf"(?<=[a-z,;—] )({_NAME})(?= (?:{'|'.join(_VERBS)})\b)|(?:said|cried|asked|replied) (?:the )?({_NAME})"
)
_NOBODY = (
    "God", "He", "Heaven", "I", "It", "Lord", "Madam", "She", "Sir", "That", "There", "They",
    "This", "We",
)  # fmt: skip
ROLES = (
    "the narrator",
    "the narrator’s companion",
    "the narrator’s opponent",
)  # where names are few


def names_in(text: str, most: int = 3) -> list[str]:
    """Those who act and speak most often in English prose, by name; roles where it names too few."""
    found = Counter(a or b for a, b in _ACTS.findall(text))
    names = [name for name, _ in found.most_common() if name.split()[0] not in _NOBODY]
    kept: list[str] = []
    for name in names:
        if not any(name in other or other in name for other in kept):
            kept.append(name)
    return [*kept, *ROLES][:most]


def pieces(text: str, budget: int, writer: Writer) -> list[str]:
    """`text` in pieces of like length, at most `budget` tokens each, cut between paragraphs if possible."""
    total = writer.count(text)
    if total <= budget:
        return [text]
    units = [(unit, writer.count(unit) + 2) for unit in _units(text, budget - 2, writer)]
    aim = total / -(-total // budget)
    made: list[list[str]] = [[]]
    held = 0
    for unit, tokens in units:
        if made[-1] and (held >= aim or held + tokens > budget):
            made.append([])
            held = 0
        made[-1].append(unit)
        held += tokens
    return ["\n\n".join(units) for units in made]


def _units(text: str, budget: int, writer: Writer) -> Iterator[str]:
    """Paragraphs; halves of those that are too long."""
    for paragraph in text.split("\n\n"):
        words = paragraph.split(" ")
        if writer.count(paragraph) <= budget or len(words) < 2:
            yield paragraph
        else:
            middle = len(words) // 2
            for half in (" ".join(words[:middle]), " ".join(words[middle:])):
                yield from _units(half, budget, writer)


def cover(tree: list[list[str]], chapters: int) -> list[str]:
    """The fewest texts of a tree that stand for exactly the first `chapters`, in order.

    Args:
        tree: level 0 has a text a chapter; text j of level k + 1 stands for the texts FAN j up to
            FAN j + FAN - 1 of level k.
    """
    texts: list[str] = []
    at = 0
    for level in range(len(tree) - 1, -1, -1):
        size = FAN**level
        while at + size <= chapters:
            texts.append(tree[level][at // size])
            at += size
    return texts


@dataclasses.dataclass
class Story:
    """A novel, the chapters (from 0) to make pairs of, and what is written of it by and by."""

    novel: Novel
    wanted: list[int]
    texts: list[list[str]]  # of each chapter, in pieces
    tree: list[list[str]] = dataclasses.field(default_factory=list)


def plan(
    chosen: Sequence[tuple[Novel, list[int]]], writer: Writer, words: dict[str, int]
) -> list[Story]:
    """Stories whose chapters are cut to what the writer can read.

    Raises:
        ConfigError: it can read too little.
    """
    budget = writer.context - most_tokens(words["summary"]) - AROUND
    longest = max((len(novel.chapters) for novel, _ in chosen), default=0)
    levels = 1
    while FAN**levels <= longest:
        levels += 1
    needed = (
        (FAN - 1) * levels * most_tokens(words["summary"])
        + AROUND
        + most_tokens(max(words.values()))
    )
    if writer.context < max(needed, AROUND + 2 * most_tokens(words["summary"])):
        raise ConfigError(
            f"a context of {writer.context} tokens is too small for a novel of {longest} chapters: "
            f"the story so far takes up to {needed}. Lower --words.summary, raise --context, or use "
            "another writer"
        )
    return [
        Story(novel, wanted, [pieces(c.text, budget, writer) for c in novel.chapters])
        for novel, wanted in chosen
    ]


def calls(stories: Sequence[Story]) -> int:
    """How many texts `write_pairs` asks for."""
    total = 0
    for story in stories:
        total += sum(map(len, story.texts)) + 1 + 4 * len(story.wanted)
        nodes = len(story.texts)
        while nodes >= FAN:
            nodes //= FAN
            total += nodes
    return total


def write_pairs(
    stories: Sequence[Story], scribe: Scribe, words: dict[str, int]
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """(pair, why it is left out) for every wanted chapter; all is written before the first is given out."""
    _write_trees(stories, scribe, words["summary"])
    casts = {
        (story.novel.slug, at): names_in("\n\n".join(c.text for c in story.novel.chapters[:at]))
        for story in stories
        for at in story.wanted
    }
    requests: list[Request] = []
    for story in stories:
        slug, chapters = story.novel.slug, story.novel.chapters
        whole = "\n\n".join(cover(story.tree, len(chapters)))
        requests.append(_request(f"{slug}: plot", PLOT, words["plot"], text=whole))
        for at in story.wanted:
            place = f"{slug}: chapter {at + 1}"
            so_far = "\n\n".join(cover(story.tree, at))
            for name in casts[slug, at]:
                about = f"{place}, {name}"
                requests.append(
                    _request(about, CHARACTER, words["character"], text=so_far, name=name)
                )
            about = f"{place}, synopsis"
            requests.append(_request(about, SYNOPSIS, words["synopsis"], text=story.tree[0][at]))
    written = iter(scribe.write(requests))
    for story in stories:
        plot = next(written)
        for at in story.wanted:
            sheets = [f"{name}: {next(written)}" for name in casts[story.novel.slug, at]]
            pair = _pair(story, at, plot, sheets, next(written))
            yield pair, prompt_too_long(_prompt_words(pair))


def _write_trees(stories: Sequence[Story], scribe: Scribe, words: int) -> None:
    """Every chapter's summary, then level by level what becomes of them; all novels at once."""
    requests = []
    for story in stories:
        for number, texts in enumerate(story.texts, 1):
            for k, text in enumerate(texts, 1):
                place = f"{story.novel.slug}: summary of chapter {number}"
                what = "chapter" if len(texts) == 1 else "piece of a chapter"
                place += "" if len(texts) == 1 else f", piece {k} of {len(texts)}"
                share = max(20, words // len(texts))
                requests.append(_request(place, SUMMARY, share, text=text, what=what))
    written = iter(scribe.write(requests))
    for story in stories:
        story.tree = [[" ".join(next(written) for _ in texts) for texts in story.texts]]
    while growing := [story for story in stories if len(story.tree[-1]) >= FAN]:
        requests = []
        for story in growing:
            below = story.tree[-1]
            for k in range(len(below) // FAN):
                text = "\n\n".join(below[FAN * k : FAN * k + FAN])
                place = f"{story.novel.slug}: level {len(story.tree)}, summary {k + 1}"
                requests.append(_request(place, CONDENSE, words, text=text))
        written = iter(scribe.write(requests))
        for story in growing:
            story.tree.append([next(written) for _ in range(len(story.tree[-1]) // FAN)])


def _request(about: str, prompt: str, words: int, **fields: str) -> Request:
    return Request(about, prompt.format(words=words, **fields), words)


def _pair(story: Story, at: int, plot: str, sheets: list[str], synopsis: str) -> dict[str, Any]:
    novel, chapter = story.novel, story.novel.chapters[at]
    return {
        "id": f"{novel.slug}-{at + 1:02}",
        "slug": novel.slug,
        "book": novel.title,
        "chapter": at + 1,
        "plot_summary": plot,
        "summary_so_far": "\n\n".join(cover(story.tree, at)),
        "characters": sheets,
        "previous_chapter": novel.chapters[at - 1].text,
        "synopsis": synopsis,
        "header": chapter.header,
        "next_chapter": chapter.text,
        "words": chapter.words,
    }


def _prompt_words(pair: dict[str, Any]) -> int:
    """Words of what the prompt of a pair holds, its instruction left out."""
    names = ("plot_summary", "summary_so_far", "previous_chapter", "synopsis", "header")
    return len(" ".join([*(pair[name] for name in names), *pair["characters"]]).split())
