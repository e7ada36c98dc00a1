"""Novels as chapters: EPUB, plain text, or JSON lines with a chapter each.

What is left out: finding the marks (`marks`), and which chapters are used (`filters`).
"""

import codecs
import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.books import chapters as cut
from litereason.books import marks
from litereason.books.epub import read_epub
from litereason.books.marks import Entry, Line
from litereason.errors import ConfigError, DataError
from litereason.extras import need

_START = re.compile(r"^\*{3}\s*START OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.M | re.I)
_END = re.compile(
    r"^(?:\*{3}\s*END OF TH(?:E|IS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg).*$",
    re.M | re.I,
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WRAP = 45  # characters: a shorter line of a paragraph ends where its author ended it


@dataclasses.dataclass(frozen=True)
class Chapter:
    """A chapter of a novel.

    Attributes:
        number: as its mark says, if it does.
        index: its place in the novel, from 1.
        kind: the word of its mark (chapter, letter...), or "".
        part: the part that it stands in, or "".
    """

    index: int
    part: str
    kind: str
    number: int | None
    title: str
    text: str

    @property
    def words(self) -> int:
        """Words, split at white space."""
        return len(self.text.split())

    @property
    def header(self) -> str:
        """ "Part I: The Old Buccaneer, Chapter 1: At the Admiral Benbow"."""
        mark = marks.Mark(0, 0, self.kind, self.number, self.title)
        return ", ".join(filter(None, [self.part, mark.label])) or f"Chapter {self.index}"


@dataclasses.dataclass(frozen=True)
class Novel:
    """A novel as chapters.

    Attributes:
        slug: short name, from the file's: "pride-and-prejudice".
        how: what it was read as: format, encoding, style of the marks.
        gaps: what is wrong with the sequence of its numbers.
        apart: (label, words) of text that stands in no chapter.
    """

    slug: str
    title: str
    author: str
    how: str
    chapters: list[Chapter]
    gaps: list[str]
    apart: list[tuple[str, int]]


def read_novels(paths: Sequence[str], chapter_mark: str | None = None) -> list[Novel]:
    """All novels of some files.

    Args:
        chapter_mark: a regular expression for the marks, where they are of no known style.

    Raises:
        ConfigError: a pattern that is none, or two novels of one name.
        DataError: a file that cannot be read as chapters; says why.
    """
    try:
        pattern = re.compile(chapter_mark) if chapter_mark else None
    except re.error as error:
        raise ConfigError(
            f"--chapter_mark {chapter_mark!r} is no regular expression: {error}"
        ) from error
    novels = [novel for path in paths for novel in read_file(Path(path), pattern)]
    seen: set[str] = set()
    for novel in novels:
        if novel.slug in seen:
            raise ConfigError(f"two novels are named {novel.slug!r}; rename one of the files")
        seen.add(novel.slug)
    return novels


def read_file(path: Path, pattern: re.Pattern[str] | None = None) -> list[Novel]:
    """The novels of a file: one, or as many as a `.jsonl` names.

    Raises:
        ConfigError: a pattern for a file whose rows are chapters.
        DataError: no such file, or one that cannot be read as chapters.
    """
    if not path.is_file():
        why = "is a directory; give its files" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {why}")
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        if pattern:
            raise ConfigError(
                f"{path}: --chapter_mark is of no use here, because each row is a chapter. Leave it out, "
                "or read this file in a call of its own, with another --name"
            )
        return _from_rows(path)
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path.name} is empty; expected a novel")
    if b"%PDF-" in data[:1024]:
        raise DataError(
            f"{path.name} is a PDF; convert it to text (pdftotext does), or find an EPUB"
        )
    if data[:2] == b"PK" or path.suffix.lower() == ".epub":
        title, author, lines, contents = read_epub(data, path.name)
        how = "EPUB"
    else:
        text, encoding = decode(data, path.name)
        how, contents = f"text, {encoding}", []
        title, author, lines = _from_text(text)
    found = cut.find_chapters(*_without_gutenberg(lines, contents), pattern)
    if not found.chapters:
        raise DataError(_no_marks(path.name, found.tried, pattern))
    title = title or path.stem
    chapters = []
    for number, (mark, part, body) in enumerate(found.chapters, 1):
        part = "" if part == title else part
        chapters.append(Chapter(number, part, mark.kind, mark.number, mark.title, paragraphs(body)))
    return [
        _novel(
            slug(path.stem), title, author, f"{how}, marks: {found.style}", chapters, found.apart
        )
    ]


def decode(data: bytes, name: str) -> tuple[str, str]:
    """Bytes as text, and the encoding that they were read as.

    A byte-order mark decides; then UTF-8; then a detector, asked for Western encodings first, then
    for other scripts.

    Raises:
        DataError: the encoding cannot be told, it is UTF-8 with errors, or it holds NUL bytes that belong
            to no encoding.
    """
    wide = b"\0" in data[:1000]  # UTF-16 without a mark, or no text
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        if "\0" not in (text := data.decode(encoding)):
            return text, encoding
    except UnicodeDecodeError as error:
        lenient = data.decode(encoding, "replace")
        bad, good = lenient.count("\ufffd"), sum(c > "\x7f" for c in lenient)
        if encoding != "utf-8" or good > 10 * bad:
            raise DataError(
                f"{name} is {encoding} with errors: {error.reason} at byte {error.start}. Repair it, or "
                "convert it to UTF-8"
            ) from error
    if b"\0" in data and not wide:
        raise DataError(_damaged(data, name))
    detect = need("charset_normalizer", "books").from_bytes
    western = ["utf_16_le", "utf_16_be"] if wide else ["cp1252", "latin_1"]
    if found := detect(data, cp_isolation=western).best():
        text = data.decode(found.encoding)
        if not re.search("[\0\x80-\x9f]", text):
            return text, found.encoding
    # Detectors take one Latin alphabet for another; of other scripts, nearly all letters tell.
    elif not wide and (found := detect(data).best()):
        text = data.decode(found.encoding)
        letters = [c for c in text if c.isalpha()]
        if 2 * sum(c > "\u024f" for c in letters) > len(letters):
            return text, found.encoding
    if wide:
        raise DataError(_damaged(data, name))
    raise DataError(f"{name}: its encoding cannot be told; convert it to UTF-8 (iconv does)")


def _damaged(data: bytes, name: str) -> str:
    return (
        f"{name} holds {data.count(0)} NUL bytes: it is damaged, or no text. EPUB, plain text and JSON "
        "lines are read"
    )


def paragraphs(lines: Sequence[Line]) -> str:
    """The text of lines: paragraphs with a blank line between, hard-wrapped lines joined again."""
    blocks: list[str] = []
    fresh, before = True, ""
    for text, _ in lines:
        if not text.strip():
            fresh = True
            continue
        line = text.strip()
        if fresh:
            blocks.append(line)
        else:
            wrapped = len(before) >= _WRAP and not text[:1].isspace()
            blocks[-1] += (" " if wrapped else "\n") + line
        fresh, before = False, text.rstrip()
    return "\n\n".join(blocks)


def slug(text: str) -> str:
    """A short name for ids: lower-case letters and digits, with hyphens."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "").replace("'", ""))
    words = re.findall(
        r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c)).lower()
    )
    return "-".join(words) or "novel"


def _from_text(text: str) -> tuple[str, str, list[Line]]:
    """(title, author, lines) of plain text; the first two as Project Gutenberg's head tells them."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    title = author = ""
    if start := _START.search(text):
        head = text[: start.start()]
        title, author = (_field(head, name) for name in ("Title", "Author"))
    lines = []
    for line in text.split("\n"):
        heading = re.match(r"(#{1,6})\s+(?=\S)", line)
        lines.append(Line(line[heading.end() :], len(heading[1])) if heading else Line(line))
    return title, author, lines


def _without_gutenberg(lines: list[Line], contents: list[Entry]) -> tuple[list[Line], list[Entry]]:
    """The lines between Project Gutenberg's head and foot, if any, and the contents that point there."""
    texts = [line.text.strip() for line in lines]
    start = next((k + 1 for k, text in enumerate(texts) if _START.match(text)), 0)
    end = next((k for k in range(start, len(texts)) if _END.match(texts[k])), len(texts))
    moved = [
        entry if entry.line is None else entry._replace(line=entry.line - start)
        for entry in contents
        if entry.line is None or start <= entry.line < end
    ]
    return lines[start:end], moved


def _field(head: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.+)$", head, re.M)
    return found[1].strip() if found else ""


def _from_rows(path: Path) -> list[Novel]:
    """Novels of a JSON-lines file: `text`, and if known `book`, `author`, `part`, `chapter_no`, `title`."""
    books: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(files.read_jsonl(path), 1):
        if "text" not in row:
            raise DataError(f"{path}, row {number}: no field 'text'; the fields are {sorted(row)}")
        for name in ("text", "book", "author", "part", "title"):
            if not isinstance(row.get(name, "" if name != "text" else None), str):
                raise DataError(
                    f"{path}, row {number}: {name!r} is {row.get(name)!r}; expected text"
                )
        if not marks.has_text([Line(row["text"])]):
            raise DataError(
                f"{path}, row {number}: its 'text' has no words. Fill it in, or leave the row out if the "
                "novel has no such chapter"
            )
        if not isinstance(row.get("chapter_no", 0), int) or isinstance(row.get("chapter_no"), bool):
            raise DataError(
                f"{path}, row {number}: 'chapter_no' is {row['chapter_no']!r}; expected a whole number"
            )
        books.setdefault(row.get("book") or path.stem, []).append(row)
    novels = []
    for title, rows in books.items():
        ordered = _in_order(rows, f"{path}: {title!r}")
        how = "JSON lines" + (", put in order by chapter_no" if ordered != rows else "")
        chapters, wrong = [], []
        for index, row in enumerate(ordered, 1):
            kind, number, name = marks.read_heading(row.get("title", ""))
            given = row.get("chapter_no")
            if given not in (None, index):
                wrong.append(f"chapter_no {given} stands at place {index}")
            part = row.get("part", "")
            text = row["text"].encode("utf-8", "replace").decode().strip()
            chapters.append(
                Chapter(index, part, kind, given if number is None else number, name, text)
            )
        name = slug(path.stem if len(books) == 1 else title)
        novels.append(_novel(name, title, rows[0].get("author", ""), how, chapters, [], wrong))
    return novels


def _in_order(rows: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """A novel's rows by `chapter_no`, where each has one of its own; else as they are.

    Raises:
        DataError: their numbers (those of titles, if there are no others) go back within a part.
    """
    given = [row.get("chapter_no") for row in rows]
    if None not in given and len({*given}) == len(given):
        return sorted(rows, key=lambda row: row["chapter_no"])
    last: dict[tuple[str, str], int] = {}
    for row, number in zip(rows, given, strict=True):
        kind = ""
        if all(one is None for one in given):
            kind, number, _ = marks.read_heading(row.get("title", ""))
        before = last.get((row.get("part", ""), kind), 0)
        if number is not None and 1 < number < before:
            raise DataError(
                f"{where} is out of order: chapter {number} comes after {before}. Put its rows in order, "
                "or give each a 'chapter_no' of its own"
            )
        last[row.get("part", ""), kind] = number or before
    return rows


def _novel(
    name: str,
    title: str,
    author: str,
    how: str,
    chapters: list[Chapter],
    apart: list[tuple[str, int]],
    wrong: Sequence[str] = (),
) -> Novel:
    found = list(wrong) or cut.gaps([(c.part, c.kind, c.number) for c in chapters])
    return Novel(name, title, author, how, chapters, found, apart)


def _no_marks(name: str, tried: dict[str, int], pattern: re.Pattern[str] | None) -> str:
    if pattern:
        return (
            f"{name}: no line matches --chapter_mark {pattern.pattern!r} (from its first character)"
        )
    found = ", ".join(f"{style} {count}" for style, count in tried.items())
    return (
        f"{name}: no chapter marks found. Looked for headings (of an EPUB, or # in text), words (Chapter "
        "1, LETTER II, Chapter the First), numbers on lines of their own (IV, 4., Four), titles of a list "
        "of contents, places that an EPUB's contents point to, parts (Book I), and titles in capitals "
        f"after two blank lines; at least {marks.FEWEST} chapters must hold {cut.COVER:.0%} of the text. "
        f"Chapters found: {found}. If it marks them in another way, say how: --chapter_mark REGEX, matched "
        "from the start of a line"
    )
