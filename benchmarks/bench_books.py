"""Seconds from a 700-kB novel to its chapters, as text and as an EPUB, against the 5 s that they may take.

Pride and Prejudice as a text with its 61 chapters marked by numbers, and as an EPUB with a document a
chapter; reading, finding the marks and cutting. What is left out: what an LM writes.
"""

import html
import io
import json
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from harness import report
from litereason.books.novels import read_file

SOURCE = Path(__file__).parents[2] / "shared" / "data" / "books" / "pride-and-prejudice.jsonl"
LIMIT = 5.0
REPEATS = 5
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="book.opf"/></rootfiles></container>'
)


def as_epub(rows: list[dict[str, Any]]) -> bytes:
    """A chapter a document, a paragraph an element."""
    buffer = io.BytesIO()
    kind = 'media-type="application/xhtml+xml"'
    items = "".join(f'<item id="i{k}" href="{k}.xhtml" {kind}/>' for k in range(len(rows)))
    refs = "".join(f'<itemref idref="i{k}"/>' for k in range(len(rows)))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr(
            "book.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest>{items}</manifest>'
            f"<spine>{refs}</spine></package>",
        )
        for k, row in enumerate(rows):
            text = "".join(f"<p>{html.escape(p)}</p>" for p in row["text"].split("\n\n"))
            archive.writestr(
                f"{k}.xhtml",
                '<html xmlns="http://www.w3.org/1999/xhtml"><body>'
                f"<h2>{row['title']}</h2>{text}</body></html>",
            )
    return buffer.getvalue()


def main() -> None:
    """Measure both; check that all chapters are there."""
    if not SOURCE.is_file():
        sys.exit(f"the novel is not there: {SOURCE}")
    rows = [json.loads(line) for line in SOURCE.read_text(encoding="utf-8").splitlines()]
    text = "".join(f"\n\n{row['title']}\n\n{row['text']}\n" for row in rows)
    with tempfile.TemporaryDirectory() as directory:
        forms = {"text": text.encode(), "epub": as_epub(rows)}
        for name, data in forms.items():
            path = Path(directory) / f"novel.{'txt' if name == 'text' else 'epub'}"
            path.write_bytes(data)
            seconds = []
            for _ in range(REPEATS):
                start = time.process_time()
                (novel,) = read_file(path)
                seconds.append(time.process_time() - start)
            if [c.words for c in novel.chapters] != [len(row["text"].split()) for row in rows]:
                raise AssertionError(f"{name}: the chapters are not those of the novel")
            ours = statistics.median(seconds)
            report(f"books, {name} to chapters", ours, ("limit", LIMIT), "<= 1", "CPU s", REPEATS)


if __name__ == "__main__":
    main()
