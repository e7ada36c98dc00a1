"""`litereason books`: novels -> chapters -> next-chapter pairs, in RUN_DIR/books/NAME.

`chapters.jsonl` has every chapter and why it makes no pair, `pairs.jsonl` the pairs, `summary.json` the
counts. What writers wrote is kept in RUN_DIR/books/answers.jsonl, for all names: another name with the same
writer asks for nothing twice. What is left out: reading novels (`novels`) and what is asked (`story`).
"""

import dataclasses
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from litereason import files
from litereason.books import story
from litereason.books.filters import why_not
from litereason.books.novels import Novel, read_novels
from litereason.books.writers import LocalWriter, Scribe, Writer
from litereason.console import console, progress, say
from litereason.errors import ConfigError, DataError
from litereason.options import option
from litereason.run_dir import only_run, open_stage

SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}  # shares of the books
# Where and how it runs: answers are kept whatever these are.
HOW = ("endpoint", "batch_size", "timeout", "key_variable")


@dataclasses.dataclass(kw_only=True)
class BooksConfig:
    """Turn novels (EPUB, text, JSON lines) into next-chapter pairs: books NOVEL... --writer MODEL."""

    novels: tuple[str, ...] = option((), "files; on the command line simply after `books`")
    writer: str | None = option(
        None,
        "the LM that writes summaries: a path, a hub id, or a name that `litereason get` knows",
    )
    endpoint: str | None = option(
        None, "or: an OpenAI-compatible URL, e.g. http://localhost:8000/v1"
    )
    endpoint_model: str | None = option(None, "the model's name there")
    endpoint_options: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={
            "help": "more fields of its requests, as --endpoint_options.NAME VALUE; null leaves one out"
        },
    )
    key_variable: str = option("OPENAI_API_KEY", "the environment variable with its key, if any")
    run_dir: str = option("runs/default", "where everything of this run goes")
    name: str = option("novels", "outputs go to RUN_DIR/books/NAME")
    chapter_mark: str | None = option(
        None, "a regular expression for chapter marks of no usual style; its group is the title"
    )
    limit: int | None = option(None, "so many pairs only, in turn from each novel")
    split: dict[str, Any] | str | None = dataclasses.field(
        default=None,
        metadata={"help": "train, val or test; one a book: --split.alice val; default: by name"},
    )
    words: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"help": f"of each text, as --words.summary 60; default: {story.WORDS}"},
    )
    temperature: float = option(0.3, "of the writer; 0 is greedy: small models loop")
    batch_size: int = option(8, "texts at once: rows of a model, requests to an endpoint")
    context: int | None = option(
        None, "tokens of a prompt and its answer; default: the model's, 8192 for an endpoint"
    )
    timeout: float = option(120.0, "seconds that an endpoint may take for an answer")
    seed: int = option(0, "of the writer's draws")

    def __post_init__(self) -> None:
        if not self.novels:
            raise ConfigError("name at least one novel: litereason books NOVEL.epub ...")
        if self.writer and self.endpoint:
            raise ConfigError("give either --writer or --endpoint")
        if bool(self.endpoint) != bool(self.endpoint_model):
            raise ConfigError("--endpoint and --endpoint_model go together")
        if self.endpoint_options and not self.endpoint:
            raise ConfigError("--endpoint_options go with --endpoint")
        if own := {"model", "messages"} & {*self.endpoint_options}:
            raise ConfigError(f"--endpoint_options cannot change {' and '.join(sorted(own))}")
        for name in ("limit", "context", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}; expected at least 1")
        if self.timeout <= 0 or self.temperature < 0:
            raise ConfigError("--timeout must be above 0, and --temperature 0 or more")
        if unknown := sorted(set(self.words) - set(story.WORDS)):
            raise ConfigError(
                f"--words.{unknown[0]} is unknown; expected one of {list(story.WORDS)}"
            )
        self.words = story.WORDS | self.words
        if bad := [v for v in self.words.values() if not isinstance(v, int) or v < 5]:
            raise ConfigError(f"--words has {bad[0]!r}; expected whole numbers of at least 5")
        given = self.split if isinstance(self.split, dict) else {"": self.split or "train"}
        if bad := [s for s in given.values() if s not in SPLITS]:
            raise ConfigError(f"--split is {bad[0]!r}; expected one of {list(SPLITS)}")


def books(config: BooksConfig) -> Path:
    """Write `chapters.jsonl` and, with a writer, `pairs.jsonl`; return the directory.

    Raises:
        ConfigError: options that cannot work, or a directory begun with others.
        DataError: a novel that cannot be read.
        EndpointError: an endpoint that gives no answers; what it gave is kept.
    """
    novels = read_novels(config.novels, config.chapter_mark)
    splits = {novel.slug: split_of(novel.slug, config.split) for novel in novels}
    if isinstance(config.split, dict):
        known = {_plain(name) for name in splits}
        if lost := [name for name in config.split if _plain(name) not in known]:
            raise ConfigError(f"--split.{lost[0]}: no such novel; there are {sorted(splits)}")
    rows = [row for novel in novels for row in chapter_rows(novel)]
    for novel in novels:
        show(novel, [row for row in rows if row["slug"] == novel.slug])
    if not any(row["why"] is None for row in rows):
        raise DataError("no chapter makes a pair; the table says why")
    with only_run(Path(config.run_dir) / "books"):  # all names share the answers
        return pairs_of(config, novels, rows, splits)


def pairs_of(
    config: BooksConfig,
    novels: Sequence[Novel],
    rows: list[dict[str, Any]],
    splits: dict[str, str],
) -> Path:
    """The same from checked novels: `rows` of `chapters.jsonl`, and the split of each slug."""
    start = time.perf_counter()
    directory = Path(config.run_dir) / "books" / config.name
    written = directory / "pairs.jsonl"
    with_writer = config.writer or config.endpoint
    if with_writer:
        open_stage(directory, config, HOW)
    elif (directory / "config.yaml").exists():
        raise ConfigError(
            f"{directory} was begun with a writer: give it again to go on, or take another --name"
        )
    same_chapters(directory / "chapters.jsonl", rows, keep=written.exists())
    if written.exists():
        say(f"books: already complete, {written}")
        return directory
    found: dict[str, Any] = {"novels": [counts(novel, rows) for novel in novels]}
    if not with_writer:
        files.write_json(directory / "summary.json", found)
        kept = sum(row["why"] is None for row in rows)
        say(f"books: {kept} of {len(rows)} chapters make a pair; {directory / 'chapters.jsonl'}")
        say("No pairs were written: that takes a model, --writer or --endpoint")
        return directory
    pairs, about = written_by(config, novels)
    for pair, why in pairs:
        pair["split"] = splits[pair["slug"]]
        if why:
            say(f"{pair['id']} is left out: {why}")
    kept_pairs = [{k: v for k, v in p.items() if k != "slug"} for p, why in pairs if not why]
    found |= about | {
        "pairs": len(kept_pairs),
        "left_out_after_writing": dict(Counter(why for _, why in pairs if why)),
        "splits": dict(Counter(pair["split"] for pair in kept_pairs)),
        "seconds": round(time.perf_counter() - start, 1),
    }
    files.write_json(directory / "summary.json", found)
    files.write_jsonl(written, kept_pairs)
    say(
        f"books: {len(kept_pairs)} pairs; {about['calls']} texts written, {about['cached']} were there; "
        f"{written}"
    )
    return directory


def chapter_rows(novel: Novel) -> list[dict[str, Any]]:
    """A line of `chapters.jsonl` for every chapter; `why` says why it makes no pair."""
    return [
        {
            "id": f"{novel.slug}-{chapter.index:02}",
            "slug": novel.slug,
            "book": novel.title,
            "chapter": chapter.index,
            "header": chapter.header,
            "words": chapter.words,
            "why": why_not(novel.chapters, at),
            "text": chapter.text,
        }
        for at, chapter in enumerate(novel.chapters)
    ]


def counts(novel: Novel, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `summary.json` says of a novel."""
    mine = [row for row in rows if row["slug"] == novel.slug]
    return {
        "slug": novel.slug,
        "book": novel.title,
        "author": novel.author,
        "read_as": novel.how,
        "chapters": len(mine),
        "kept": sum(row["why"] is None for row in mine),
        "left_out": dict(Counter(row["why"] for row in mine if row["why"])),
        "gaps": novel.gaps,
        "words_in_no_chapter": dict(novel.apart),
    }


def split_of(slug: str, given: dict[str, Any] | str | None) -> str:
    """A book's split: as given, or by its name, so that it stays when other books come."""
    if isinstance(given, str):
        return given
    for name, split in (given or {}).items():
        if _plain(name) == _plain(slug):
            return split
    digest = hashlib.blake2b(slug.encode(), digest_size=8).digest()
    place, below = int.from_bytes(digest, "big") / 2**64, 0.0
    for split, share in SPLITS.items():
        below += share
        if place < below:
            return split
    return "test"


def _plain(name: str) -> str:
    return name.replace("-", "_")  # as the command line has them


def choose(novels: Sequence[Novel], limit: int | None) -> list[tuple[Novel, list[int]]]:
    """The chapters (from 0) to make pairs of: the first of each novel, then the second of each..."""
    fit = [[at for at in range(len(n.chapters)) if not why_not(n.chapters, at)] for n in novels]
    turns = sorted((turn, book) for book, places in enumerate(fit) for turn in range(len(places)))
    taken = Counter(book for _, book in turns[:limit])
    return [(novel, fit[k][: taken[k]]) for k, novel in enumerate(novels) if taken[k]]


def written_by(
    config: BooksConfig, novels: Sequence[Novel]
) -> tuple[list[tuple[dict[str, Any], str | None]], dict[str, Any]]:
    """(pair, why it is left out) of all chosen chapters, and what the writer did for it."""
    writer: Writer
    if config.endpoint:
        from litereason.books.endpoint import EndpointWriter

        assert config.endpoint_model
        writer = EndpointWriter(
            config.endpoint,
            config.endpoint_model,
            config.key_variable,
            config.temperature,
            config.batch_size,
            config.context,
            config.timeout,
            config.endpoint_options,
        )
    else:
        from transformers.utils import logging

        logging.disable_progress_bar()  # "loading weights" beside our own bar
        assert config.writer
        writer = LocalWriter(
            config.writer, config.temperature, config.batch_size, config.context, config.seed
        )
    stories = story.plan(choose(novels, config.limit), writer, config.words)
    with progress() as bar:
        task = bar.add_task(f"books {config.name}", total=story.calls(stories), note="")

        def tell() -> None:
            again = f", {writer.retries} tried again" if writer.retries else ""
            bar.update(task, advance=1, note=f"{scribe.cached} were there{again}")

        scribe = Scribe(writer, Path(config.run_dir) / "books" / "answers.jsonl", tell)
        pairs = list(story.write_pairs(stories, scribe, config.words))
    name = config.endpoint_model if config.endpoint else config.writer
    about = {"writer": name, "identity": writer.identity}
    return pairs, about | {
        "calls": scribe.calls,
        "cached": scribe.cached,
        "retries": writer.retries,
    }


def same_chapters(path: Path, rows: list[dict[str, Any]], keep: bool) -> None:
    """Write the chapters, or if pairs were made of them (`keep`), check that they are the same.

    Raises:
        ConfigError: they are not.
    """
    if not keep:
        files.write_jsonl(path, rows)
    elif files.read_jsonl(path) != rows:
        raise ConfigError(
            f"{path.parent} was made of other chapters: the novels have changed since. Take another "
            "--name, or delete the directory"
        )


def show(novel: Novel, rows: Sequence[dict[str, Any]]) -> None:
    """A novel's chapters as a table, and what is odd about them."""
    kept = sum(row["why"] is None for row in rows)
    table = Table(
        box=box.SIMPLE_HEAD, title=escape(f"{novel.title} ({novel.how})"), title_justify="left"
    )
    table.add_column("", justify="right")
    table.add_column("chapter")
    table.add_column("words", justify="right")
    table.add_column(f"{kept} of {len(rows)} kept")
    for row in rows:
        why = row["why"]
        style = None if why is None else "dim"
        table.add_row(
            str(row["chapter"]),
            escape(row["header"]),
            str(row["words"]),
            why or "kept",
            style=style,
        )
    console.print(table)
    for gap in novel.gaps:
        say(f"! {gap}")
    for label, words in novel.apart:
        say(f"in no chapter: {label}, {words} words")
