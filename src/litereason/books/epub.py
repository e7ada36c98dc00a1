"""An EPUB as lines: the documents of its spine in order, headings marked, and its table of contents.

What is left out: styles, pictures, notes marks, and files with DRM, which are refused by name.
"""

import codecs
import html
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from litereason.books.marks import Entry, Line
from litereason.errors import DataError
from litereason.extras import need

# Fonts may be obfuscated without DRM (EPUB 3.3, section 4.2.6.3.3, and Adobe's own way).
FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt"),
        *(
            "figcaption",
            "figure",
            "footer",
            "header",
            "hgroup",
            "hr",
            "li",
            "main",
            "ol",
            "p",
            "pre",
        ),
        *("section", "table", "td", "th", "tr", "ul", "h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
SILENT = frozenset(("head", "script", "style", "nav", "svg", "math", "img"))
TYPE = "{http://www.idpf.org/2007/ops}type"


class Epub(NamedTuple):
    """What an EPUB holds."""

    title: str
    author: str
    lines: list[Line]
    contents: list[Entry]


def read_epub(data: bytes, name: str) -> Epub:
    """Read an EPUB 2 or 3.

    Args:
        data: the whole file.
        name: for errors.

    Raises:
        DataError: no EPUB, broken, or protected by DRM.
    """
    etree = need("lxml.etree", "books")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse_drm(archive, name, etree)
            return _read(archive, name, etree)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        etree.LxmlError,
    ) as error:
        raise DataError(
            f"{name} is a broken EPUB ({error}). Fetch it again, or repair it with an e-book tool"
        ) from error


def _refuse_drm(archive: zipfile.ZipFile, name: str, etree: Any) -> None:
    protected = any(info.flag_bits & 1 for info in archive.infolist())
    if "META-INF/encryption.xml" in archive.namelist():
        root = _xml(archive.read("META-INF/encryption.xml"), etree)
        for item in root.iter("{*}EncryptedData"):
            method = item.find("{*}EncryptionMethod")
            algorithm = method.get("Algorithm") if method is not None else None
            protected = protected or algorithm not in FONT_ALGORITHMS
    if protected:
        raise DataError(
            f"{name} is protected (DRM: its text is encrypted); only unprotected EPUBs can be read"
        )


def _read(archive: zipfile.ZipFile, name: str, etree: Any) -> Epub:
    def member(path: str) -> bytes:
        try:
            return archive.read(path)
        except KeyError as error:
            raise DataError(
                f"{name} is a broken EPUB: it names {path!r}, but does not hold it"
            ) from error

    rootfile = _xml(member("META-INF/container.xml"), etree).find(".//{*}rootfile")
    if rootfile is None:
        raise DataError(f"{name} is a broken EPUB: META-INF/container.xml names no package")
    package = rootfile.get("full-path", "")
    root = _xml(member(package), etree)

    items = {item.get("id"): item for item in root.iterfind(".//{*}manifest/{*}item")}
    paths = {item: _path(package, item.get("href", "")) for item in items.values()}
    spine = root.iterfind(".//{*}spine/{*}itemref")
    read = [items.get(ref.get("idref")) for ref in spine if ref.get("linear") != "no"]
    lines: list[Line] = []
    places: dict[str, int] = {}
    for item in read:
        if item is None:
            raise DataError(
                f"{name} is a broken EPUB: its spine names an item that it does not list"
            )
        if "html" in item.get("media-type", ""):
            found, ids = lines_of(member(paths[item]))
            here = {paths[item]: 0} | {f"{paths[item]}#{name}": line for name, line in ids.items()}
            places |= {place: len(lines) + line for place, line in here.items()}
            lines += found
    if not any(line.text for line in lines):
        raise DataError(f"{name} holds no text; scanned pages must be turned into text first")
    contents = _contents(paths, places, lambda path: _xml(member(path), etree))
    title, author = (_text(root.find(f".//{{*}}{tag}")) for tag in ("title", "creator"))
    return Epub(title, author, lines, contents)


def _contents(
    paths: Mapping[Any, str], places: Mapping[str, int], read: Callable[[str], Any]
) -> list[Entry]:
    """The entries of EPUB 3's navigation document, or else of EPUB 2's NCX.

    Args:
        paths: of the items of the package.
        places: the line where a document, or an element of it (`path#id`), begins.
    """

    def entries(path: str, found: Iterable[tuple[Any, int, str]]) -> list[Entry]:
        made = []
        for label, depth, href in found:
            place = _path(path, href)
            line = places.get(place, places.get(place.partition("#")[0]))
            made.append(Entry(_text(label), depth, line))
        return made

    contents: list[Entry] = []
    for item, path in paths.items():
        if "nav" in (item.get("properties") or "").split():
            navs = read(path).iter("{*}nav")
            tocs = [n for n in navs if (n.get(TYPE) or n.get("epub:type")) == "toc"]
            links = [link for toc in tocs[:1] for link in toc.iter("{*}a")]
            return entries(path, ((a, _depth(a, "ol"), a.get("href", "")) for a in links))
        if item.get("media-type") == "application/x-dtbncx+xml":
            found = []
            for point in read(path).iter("{*}navPoint"):
                label, content = point.find("{*}navLabel"), point.find("{*}content")
                href = "" if content is None else content.get("src", "")
                found.append((label, 1 + _depth(point, "navPoint"), href))
            contents = entries(path, found)
    return contents


def _depth(element: Any, tag: str) -> int:
    return sum(1 for _ in element.iterancestors(f"{{*}}{tag}"))


def _path(base: str, href: str) -> str:
    """Where a link in the file `base` points, as `path` or `path#id`."""
    path, mark, name = href.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(path)))
    return path + mark + unquote(name)


def lines_of(document: bytes) -> tuple[list[Line], dict[str, int]]:
    """An (X)HTML document as lines: a block of text each, a blank one between, headings with level.

    Returns:
        The lines, and on which of them the element with an id begins.
    """
    etree = need("lxml.etree", "books")
    lines: list[Line] = []
    places: dict[str, int] = {}
    words: list[str] = []
    levels: list[int] = []
    silent = 0

    def close() -> None:
        level = levels[-1] if levels else 0
        texts = [" ".join(text.split()) for text in "".join(words).split("\0")]
        kept = [Line(text, level) for text in texts if text]
        # the lines of one heading stay together; text has a blank line around it
        if kept and lines and not (level and lines[-1].level == level):
            lines.append(Line(""))
        lines.extend(kept)
        words.clear()

    root = _xml(document, etree)
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = etree.QName(element).localname.lower() if isinstance(element.tag, str) else "head"
        quiet = tag in SILENT or "noteref" in (element.get(TYPE) or element.get("epub:type") or "")
        if event == "start":
            silent += quiet
            if tag in BLOCKS and not silent:
                close()
                if re.fullmatch("h[1-6]", tag):
                    levels.append(int(tag[1]))
                elif tag == "hgroup":
                    levels.append(_level_in(element))
            if name := element.get("id"):
                places.setdefault(name, len(lines))
            if tag == "br" and not silent:
                words.append("\0")
            if not silent:
                words.append(element.text or "")
        else:
            if tag in BLOCKS and not silent:
                close()
                if levels and re.fullmatch("h[1-6]|hgroup", tag):
                    levels.pop()
                    if not levels:
                        lines.append(Line(""))
            silent -= quiet
            if not silent:
                words.append(element.tail or "")
    close()
    return [*lines, Line("")], places


def _level_in(group: Any) -> int:
    """The level of a group of headings is that of its highest."""
    tags = [str(child.tag).rpartition("}")[2].lower() for child in group.iter()]
    return min((int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)), default=0)


def _xml(data: bytes, etree: Any) -> Any:
    """A document as a tree: as XML if it is well-formed, else as a browser would read it.

    Named entities (`&nbsp;`) become characters first: XML knows them only by a DTD, which is not fetched.
    """
    text = data
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        text = re.sub(rb"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z]+[0-9]*;", _numeric, data)
    safe = {"resolve_entities": False, "no_network": True}
    try:
        return etree.fromstring(text, etree.XMLParser(**safe))
    except etree.XMLSyntaxError:
        start = re.search(rb"encoding=[\"']([\w.-]+)|charset=[\"']?([\w.-]+)", data[:1000])
        encoding = (start[1] or start[2]).decode() if start else "utf-8"
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise DataError(f"a document names the encoding {encoding!r}, which is none") from error
        root = etree.fromstring(text, etree.HTMLParser(encoding=encoding, no_network=True))
        if root is None:
            raise
        return root


def _numeric(entity: re.Match[bytes]) -> bytes:
    text = html.unescape(entity[0].decode())
    return "".join(f"&#{ord(c)};" for c in text).encode() if not text.endswith(";") else entity[0]


def _text(element: Any) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())
