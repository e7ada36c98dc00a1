"""How novels mark their chapters: a function a style, from lines to marks.

A mark opens a chapter, a part (with chapters in it), or what is no story (contents, notes, colophon). What
is left out: which style is a novel's (`chapters`); words of other languages than English.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from litereason.books.numerals import NUMBER, number_of

PARTS = ("volume", "vol", "book", "part")
CHAPTERS = ("chapter", "chap", "letter", "stave", "canto", "epistle")
NAMED = ("prologue", "epilogue", "interlude", "intermezzo", "postscript", "conclusion", "finale")
# What is no story of the novel's own
APART = (
    "contents", "table of contents", "list of illustrations", "illustrations", "footnotes",
    "endnotes", "notes", "transcriber's note", "transcriber's notes", "colophon",
    "uncopyright", "copyright", "imprint", "titlepage", "title page", "halftitle",
    "dedication", "index", "acknowledgments", "acknowledgements", "about the author",
    "preface", "foreword", "introduction", "afterword", "appendix", "bibliography", "the end",
)  # fmt: skip
BODY = 50  # words: less is no chapter but a line in a list of contents, or a title page
FEWEST = 3  # chapters that a style must find
STEP = 3  # from one number to the next: marks may be missed

_SEPARATOR = r"[\s.:,;\-–—)\]]"
_KEYWORDS = "|".join([*CHAPTERS, *PARTS])
_KEYWORD = re.compile(
    rf"(?:(?P<kind>{_KEYWORDS})\.?\s+(?:the\s+)?(?P<number>{NUMBER})"
    rf"|(?:the\s+)?(?P<first>{NUMBER})\s+(?P<after>{_KEYWORDS}))(?P<rest>$|{_SEPARATOR}.*)",
    re.I | re.S,
)
_BARE = re.compile(
    rf"(?P<number>{NUMBER})(?P<rest>$|\s*[.:)\]–—]\s*$|\s*[.:)–—]\s+\S.*)", re.I | re.S
)
_NAMED = re.compile(rf"({'|'.join([*NAMED, *APART])})(?:\s*[.:–—-]\s*(.*)|$)", re.I)
_SMALL = (
    "a", "an", "and", "at", "by", "for", "from", "in", "into", "of", "on", "or", "the", "to",
    "with",
)  # fmt: skip
_ORNAMENT = " \t_*=#[]~|"


class Line(NamedTuple):
    """A line of a novel; `level` is 1-6 in a heading, 0 elsewhere."""

    text: str
    level: int = 0


class Entry(NamedTuple):
    """An entry of an EPUB's contents: its depth, from 1, and the line that it points to, if known."""

    title: str
    depth: int
    line: int | None


@dataclasses.dataclass(frozen=True)
class Mark:
    """A chapter's, part's or other section's first line.

    Attributes:
        start: index of its line.
        end: index of the first line of the text after it (title lines belong to the mark).
        kind: the word that it uses (chapter, letter, part...), "apart" for what is no story, or "".
        number: its number, if it has one.
        title: the rest.
    """

    start: int
    end: int
    kind: str
    number: int | None
    title: str

    @property
    def label(self) -> str:
        """The mark in one form: "Chapter 5: Advice from a Caterpillar"."""
        words = (
            "" if self.number is None else f"{(self.kind or 'chapter').capitalize()} {self.number}"
        )
        return ": ".join(filter(None, [words, self.title]))


def read_heading(text: str) -> tuple[str, int | None, str]:
    """(kind, number, title) of a line that is known to be a heading."""
    text = " ".join(text.split()).strip(_ORNAMENT)
    for read in (keyword, bare, named):
        if found := read(text):
            return found
    return "", None, text


def words_in(lines: Iterable[Line]) -> int:
    """Words, split at white space."""
    return sum(len(line.text.split()) for line in lines)


def has_text(lines: Iterable[Line]) -> bool:
    """Whether there is a letter or a digit."""
    return any(re.search(r"[^\W_]", line.text) for line in lines)


def keyword(text: str) -> tuple[str, int | None, str] | None:
    """ "Chapter IV. Title", "PART THE FIRST", "The Second Book"."""
    found = _KEYWORD.fullmatch(text)
    if not found:
        return None
    kind = (found["kind"] or found["after"]).lower()
    number = number_of(found["number"] or found["first"])
    title = found["rest"].lstrip(" \t.:,;-–—)]").rstrip()
    prose = (found["rest"][:1] in " \t" and title[:1].islower()) or not text[:1].isupper()
    if number is None or prose:
        return None
    return {"chap": "chapter", "vol": "volume"}.get(kind, kind), number, title


def bare(text: str) -> tuple[str, int | None, str] | None:
    """ "IV", "4.", "IV: Title", "Four"."""
    found = _BARE.fullmatch(text)
    number = number_of(found["number"]) if found else None
    if not found or number is None:
        return None
    return "", number, found["rest"].strip(" \t.:)]–—")


def named(text: str) -> tuple[str, int | None, str] | None:
    """ "Epilogue", "Contents"."""
    found = _NAMED.fullmatch(text.replace("’", "'").rstrip("."))
    if not found:
        return None
    apart = found[1].lower() in APART
    return (
        "apart" if apart else "",
        None,
        text if apart or not found[2] else f"{found[1]}: {found[2]}",
    )


def scan(
    lines: Sequence[Line],
    read: Callable[[str], tuple[str, int | None, str] | None],
    isolated: bool = False,
) -> list[Mark]:
    """Lines after a blank one (or after a mark) that `read` or `named` takes for a mark.

    `isolated`: a mark must have a blank line after it too. Without one above, a line must stand out.
    """
    marks: list[Mark] = []
    for k, line in enumerate(lines):
        text = line.text.strip(_ORNAMENT)
        if not text or len(text) > 150 or (marks and k < marks[-1].end):
            continue
        above = k == 0 or not lines[k - 1].text.strip() or bool(marks and marks[-1].end == k)
        alone = k + 1 == len(lines) or not lines[k + 1].text.strip()
        found = read(text) if alone or not isolated else None
        if isolated and found is None and above:
            found = keyword(text)
            found = found if found and found[0] in PARTS else None
        if found and not above and not _stands_out(lines[k - 1].text, text, found, marks):
            found = None
        if found is None and above and alone:
            found = named(text)
        if found:
            marks.append(_with_title(lines, k, found, read))
    return marks


def _stands_out(
    before: str, text: str, found: tuple[str, int | None, str], marks: Sequence[Mark]
) -> bool:
    """Whether a line right below text is a mark: that ends a sentence, it is no prose, it counts on."""
    kind, number, title = found
    if number is None or before.rstrip(_ORNAMENT + "”\"’')")[-1:] not in ".!?:;—-":
        return False
    if title and not _is_title(title) and not text.split()[0].isupper():
        return False
    last = next((m.number for m in reversed(marks) if m.kind == kind and m.number), 0)
    return (
        number == 1 or 1 <= number - last <= STEP
    )  # 1: in a new part, or after a list of contents


def _with_title(
    lines: Sequence[Line],
    k: int,
    found: tuple[str, int | None, str],
    read: Callable[[str], tuple[str, int | None, str] | None],
) -> Mark:
    """The mark on line k, with the title that may stand on the lines below it."""
    kind, number, title = found
    start = end = k + 1
    if not title and number is not None:
        while start < len(lines) and start <= k + 4 and not lines[start].text.strip():
            start += 1
    block = []
    while start < len(lines) and lines[start].text.strip() and len(block) < 4:
        block.append(lines[start].text.strip(_ORNAMENT))
        start += 1
    text = " ".join(block)
    if number is not None and 0 < len(block) < 4 and _is_title(text) and not read(text):
        title, end = f"{title} {text}".strip(), start
    return Mark(k, end, kind, number, title)


def _is_title(text: str) -> bool:
    """Short, in capitals or with most words capitalised, and neither sentence nor speech."""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if word.lower() not in _SMALL]
    if not words or len(text.split()) > 20 or read_heading(text)[1] is not None:
        return False
    if text == text.upper():
        return True
    inner = text.strip("“”\"‘’'")
    ends = ".,;:!—" if inner == text else ".,;:!—?"
    return 2 * sum(word[0].isupper() for word in words) > len(words) and inner[-1:] not in ends


def headings(lines: Sequence[Line]) -> list[Mark]:
    """Headings of the level that holds most chapters; those above it are parts, below it text.

    A heading above that has a text of its own is a chapter as well (a prologue beside parts).
    """
    found: list[tuple[int, Mark]] = []
    for k, line in enumerate(lines):
        if not line.level or (found and k < found[-1][1].end):
            continue
        end = k + 1
        while end < len(lines) and lines[end].level == line.level and end < k + 4:
            if keyword(lines[end].text) or bare(lines[end].text):
                break
            end += 1  # the title on lines of its own
        kind, number, title = read_heading(" ".join(item.text for item in lines[k:end]))
        if end > k + 1:
            first = read_heading(lines[k].text)
            rest = " ".join(item.text for item in lines[k + 1 : end])
            if first[1] is not None:
                kind, number, title = first[0], first[1], f"{first[2]} {rest}".strip()
        found.append((line.level, Mark(k, end, kind, number, title)))
    return _of_one_level(lines, found)


def pointed(lines: Sequence[Line], contents: Sequence[Entry]) -> list[Mark]:
    """Where an EPUB's contents point, for documents that show no headings: their names are there only."""
    found = [
        (entry.depth, Mark(entry.line, entry.line, *read_heading(entry.title)))
        for entry in contents
        if entry.line is not None
    ]
    return _of_one_level(lines, sorted(found, key=lambda one: one[1].start))


def _of_one_level(lines: Sequence[Line], found: Sequence[tuple[int, Mark]]) -> list[Mark]:
    """The marks of the level that holds most chapters, and those above it, which may be parts."""

    def body(at: int) -> int:
        stop = found[at + 1][1].start if at + 1 < len(found) else len(lines)
        return words_in(lines[found[at][1].end : stop])

    held: dict[int, int] = {}
    for at, (level, mark) in enumerate(found):
        if mark.kind not in (*PARTS, "apart") and body(at) >= BODY:
            held[level] = held.get(level, 0) + 1
    best = max(held, key=lambda level: (held[level], -level), default=0)
    marks = []
    for at, (level, mark) in enumerate(found):
        if level < best and mark.kind not in (*PARTS, "apart") and body(at) < BODY:
            mark = dataclasses.replace(mark, kind="part" if mark.number else "untitled part")
        if level <= best:
            marks.append(mark)
    return marks


def matching(lines: Sequence[Line], pattern: re.Pattern[str]) -> list[Mark]:
    """Lines that the user's pattern matches; a group in it is the title."""
    marks = []
    for k, line in enumerate(lines):
        if found := pattern.match(line.text.strip()):
            text = (found[1] or "") if pattern.groups else line.text
            kind, number, title = read_heading(text)
            marks.append(Mark(k, k + 1, "" if kind == "apart" else kind, number, title))
    return marks


def titled(lines: Sequence[Line], contents: Sequence[Entry]) -> list[Mark]:
    """Lines that are titles of the list of contents, which the file gives or the text begins with."""

    def plain(text: str) -> str:
        text = re.sub(r"[\s.·…]+[\divxlc]*$", "", text.strip(_ORNAMENT))
        return " ".join(re.findall(r"\w+", text.casefold()))

    start, known = 0, {plain(entry.title) for entry in contents}
    heads = [
        k for k, line in enumerate(lines) if plain(line.text) in ("contents", "table of contents")
    ]
    if not known and heads:
        for start in range(heads[0] + 1, len(lines)):
            text = plain(lines[start].text)
            if text in known or len(text.split()) > 15:
                break
            known.add(text)
    marks = []
    for k in range(start, len(lines)):
        above = k == 0 or not lines[k - 1].text.strip()
        if above and (text := plain(lines[k].text)) and text in known:
            kind, number, title = read_heading(lines[k].text)
            marks.append(Mark(k, k + 1, kind, number, title))
    return marks


def capitals(lines: Sequence[Line]) -> list[Mark]:
    """Short lines in capitals after two blank lines."""
    marks = []
    for k in range(2, len(lines) - 1):
        text = lines[k].text.strip(_ORNAMENT)
        around = [lines[k - 2].text, lines[k - 1].text, lines[k + 1].text]
        if (
            text
            and text == text.upper()
            and not any(item.strip() for item in around)
            and _is_title(text)
        ):
            kind, _, title = read_heading(text)
            marks.append(Mark(k, k + 1, kind, None, title))
    return marks
