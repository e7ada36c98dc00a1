"""Story information: what writers see, what endpoints do to us, and that nothing is asked twice."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litereason import files
from litereason.books import command, endpoint, story
from litereason.books.endpoint import EndpointWriter
from litereason.books.novels import read_novels
from litereason.books.story import FAN, cover, names_in, pieces
from litereason.books.writers import Request, Scribe, tidy
from litereason.cli import main
from litereason.errors import ConfigError, EndpointError
from litereason.run_dir import only_run

FIELDS = [
    *("id", "book", "chapter", "plot_summary", "summary_so_far", "characters", "previous_chapter"),
    *("synopsis", "header", "next_chapter", "split", "words"),
]


@pytest.fixture
def book(tmp_path):
    """A novel of ten chapters; a word `markN` stands in chapter N only."""
    text = ""
    for n in range(1, 11):
        text += f"\n\nChapter {n}: A Title\n\n" + f"then Anna said mark{n} to us all. " * 200
    (tmp_path / "the-book.txt").write_text(text)
    return tmp_path / "the-book.txt"


class Echo:
    """Writes the marks that it sees, and how many: whatever it is told comes out again."""

    def __init__(self, context=8192):
        self.identity, self.context, self.retries, self.seen = {"writer": "echo"}, context, 0, []

    def count(self, text):
        return len(text.split())

    def write(self, requests):
        for i, request in reversed([*enumerate(requests)]):
            self.seen.append(request)
            found = sorted({int(n) for n in re.findall(r"mark(\d+)", request.prompt)})
            yield i, f"{len(found)} marks: " + " ".join(f"mark{n}" for n in found)


def marks_in(text: str) -> set[int]:
    return {int(n) for n in re.findall(r"mark(\d+)", text)}


def pairs_of(book, writer, answers):
    novels = read_novels([str(book)])
    stories = story.plan(command.choose(novels, None), writer, story.WORDS)
    scribe = Scribe(writer, answers)
    return [p for p, _ in story.write_pairs(stories, scribe, story.WORDS)], scribe, stories


@pytest.mark.parametrize("context", [8192, 1600])
def test_no_text_knows_what_comes_later(book, tmp_path, context):
    """Each is made of exactly the chapters that it stands for, in pieces or whole."""
    writer = Echo(context)
    pairs, scribe, stories = pairs_of(book, writer, tmp_path / "answers.jsonl")
    assert [pair["chapter"] for pair in pairs] == list(range(2, 9))
    assert any(len(texts) > 1 for texts in stories[0].texts) == (context == 1600)
    for pair in pairs:
        before = set(range(1, pair["chapter"]))
        assert marks_in(pair["summary_so_far"]) == before
        assert all(marks_in(sheet) == before for sheet in pair["characters"])
        assert marks_in(pair["plot_summary"]) == set(range(1, 11))
        assert marks_in(pair["synopsis"]) == marks_in(pair["next_chapter"]) == {pair["chapter"]}
        assert marks_in(pair["previous_chapter"]) == {pair["chapter"] - 1}
        assert len(pair["characters"]) == 3 and pair["characters"][0].startswith("Anna: ")
    assert (scribe.calls + scribe.cached, len(writer.seen)) == (story.calls(stories), scribe.calls)


@given(st.integers(0, 70), st.integers(1, 70))
def test_a_cover_is_exactly_the_chapters_before(before, total):
    before = min(before, total)
    tree = [[(k,) for k in range(total)]]
    while len(tree[-1]) >= FAN:
        below = tree[-1]
        joined = [sum(below[FAN * k : FAN * k + FAN], ()) for k in range(len(below) // FAN)]
        tree.append(joined)
    covered = cover(tree, before)  # pyright: ignore[reportArgumentType]
    assert sum(covered, ()) == tuple(range(before))  # pyright: ignore[reportCallIssue]
    assert len(covered) <= (FAN - 1) * len(tree)


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(5, 60))
def test_pieces_hold_every_word_and_fit(sizes, budget):
    text = "\n\n".join(" ".join(f"w{i}.{k}" for k in range(n)) for i, n in enumerate(sizes))
    cut = pieces(text, budget, Echo())
    assert " ".join(cut).split() == text.split()
    assert all(len(piece.split()) <= budget for piece in cut)


def test_names_are_those_who_act():
    text = (
        "and then Alice said so, but the White Rabbit was late, and Alice thought. In London it rained, "
        "in London it snowed, in London. “Off!” cried the Queen. Soon after Mr. Darcy replied that "
        "Alice had won."
    )
    assert names_in(text)[0] == "Alice"
    assert set(names_in(text, 4)) == {"Alice", "White Rabbit", "Queen", "Mr. Darcy"}
    assert names_in("nobody here.") == list(story.ROLES)


def test_answers_are_tidied():
    assert tidy("<think>hm\nyes</think>\n The end \n came. ", False) == "The end came."
    assert tidy("He went. She said “No.” Then he", True) == "He went. She said “No.”"
    assert tidy("He went on and on", True) == "He went on and on"
    assert tidy("Half a \ud83d is none", False) == "Half a ? is none"
    loop = "and the March Hare was having a great deal of fun, "
    assert tidy(f"They had tea. It was late, {loop * 9}", True) == "They had tea."
    assert tidy(loop * 3, False) == loop.strip()
    assert tidy("<think>never closed, all of it", False) == tidy("No. 1", False) == ""


def test_a_scribe_asks_once_and_survives_a_torn_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    ask = [Request("a", "mark1", 9), Request("b", "mark2", 9), Request("c", "mark1", 9)]
    first = Scribe(Echo(), path)
    texts = first.write(ask)
    assert (texts[0], first.calls, first.cached) == (texts[2], 2, 1)
    path.write_bytes(path.read_bytes()[:-5])
    again = Scribe(Echo(), path)
    assert (again.write(ask), again.calls, again.cached) == (texts, 1, 2)
    longer = Scribe(Echo(), path)
    longer.write([Request("a", "mark1", 10)])
    assert longer.calls == 1


class Server(ThreadingHTTPServer):
    """Answers chat completions; `script` says what goes wrong with each call, in order."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.headers, self.lock = [], [], [], threading.Lock()
        self.answered: list[str] = []
        self.bodies: list[dict] = []
        self.healthy = 10**9  # so many answers, then only 500
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            self.server.asked.append(prompt)
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            step = self.server.script.pop(0) if self.server.script else "good"
            if step == "good" and len(self.server.answered) >= self.server.healthy:
                step = "500"
            if step == "good":
                self.server.answered.append(prompt)
        content = (
            f"It is all about {' '.join(sorted(set(re.findall(r'mark[0-9]+', prompt))))} here."
        )
        good = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        if step == "hang":
            time.sleep(1.5)
        elif step == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif step == "gzip":
            self._send(200, b"no gzip", {"Content-Encoding": "gzip"})
        elif step == "400":
            why = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            error = {"error": {"type": "x" * 300, "message": why}}
            self._send(400, json.dumps(error).encode(), {})
        elif step.isdigit():
            self._send(int(step), b"busy", {"Retry-After": "0"} if step == "429" else {})
        else:
            empty = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
            texts = {"html": b"<html>", "list": b"[]", "empty": json.dumps(empty).encode()}
            texts["deep"] = b"[" * 100_000
            self._send(200, texts.get(step, json.dumps(good).encode()), {})

    def _send(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    with Server() as running:
        yield running
        running.shutdown()


def writer_of(server, **changes):
    settings = {"batch_size": 2, "timeout": 0.5, "first_wait": 0.01}
    return EndpointWriter(server.url, "m", **(settings | changes))


def test_an_endpoint_that_fails_in_passing_is_asked_again(server):
    server.script = ["hang", "drop", "503", "html", "list", "empty"]
    writer = writer_of(server, batch_size=1)
    assert dict(writer.write([Request("a", "mark1", 9)])) == {0: "It is all about mark1 here."}
    assert (writer.retries, len(server.asked)) == (6, 7)
    server.script = ["gzip", "deep"]
    assert dict(writer.write([Request("b", "mark2", 9)])) == {0: "It is all about mark2 here."}
    assert writer.retries == 8


@pytest.mark.timeout(60)
def test_retry_after_is_obeyed(server):
    server.script = ["429", "429"]
    writer = writer_of(server, first_wait=500.0)  # would take minutes if it were not
    assert dict(writer.write([Request("a", "mark1", 9)])) == {0: "It is all about mark1 here."}
    assert endpoint._seconds("7") == 7
    assert endpoint._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert endpoint._seconds("soon") is None


def test_a_refusal_stops_at_once_and_the_key_is_sent_but_not_kept(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    writer = writer_of(server, key_variable="MY_KEY", batch_size=1)
    server.script = ["401"]
    with pytest.raises(ConfigError, match=r"status 401 \(busy\).*\$MY_KEY") as caught:
        list(writer.write([Request("a", "mark1", 9)]))
    assert len(server.asked) == 1
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(writer.identity) + str(caught.value)


def test_a_request_that_a_model_does_not_take_can_be_changed(server):
    """The endpoint's own words are shown, and what was sent; its fields are set, added or left out."""
    request = [Request("a", "mark1", 9)]
    server.script = ["400"]
    with pytest.raises(ConfigError) as caught:
        list(writer_of(server).write(request))
    told = str(caught.value)
    assert "status 400 (Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'" in told
    assert "sent messages, max_tokens, model, temperature; --endpoint_options" in told
    options = {"max_tokens": None, "max_completion_tokens": 4096, "temperature": 1, "top_p": 0.5}
    writer = writer_of(server, options=options)
    assert len(dict(writer.write(request))) == 1
    usual, changed = server.bodies
    assert usual["temperature"] == 0.3 and usual["max_tokens"] > 2048
    assert changed == {
        "model": "m", "messages": usual["messages"],
        "max_completion_tokens": 4096, "temperature": 1, "top_p": 0.5,
    }  # fmt: skip
    assert writer.identity != writer_of(server).identity, "another request has another answer"


def test_an_endpoint_that_moved_is_the_same_and_another_request_is_not(server, book, tmp_path):
    words = ["books", str(book), "--endpoint_model", "m", "--run_dir", str(tmp_path / "run")]
    server.healthy = 12
    directory = tmp_path / "run" / "books" / "novels"
    at = ["--endpoint", server.url, "--batch_size", "1"]
    server.script = ["good"] * 12 + ["401"]
    assert main([*words, *at]) == 2
    begun = directory / "config.yaml"  # by a version without these options: that is no difference
    assert "  endpoint_options: {}\n" in begun.read_text()
    begun.write_text(begun.read_text().replace("  endpoint_options: {}\n", ""))
    with Server() as moved:
        assert main([*words, "--endpoint", moved.url]) == 0
        assert (directory / "pairs.jsonl").exists()
        assert server.answered and not {*server.answered} & {*moved.answered}
        before = len(moved.answered)
        again = [*words, "--name", "other", "--limit", "1", "--endpoint", moved.url]
        assert main([*again, "--endpoint_options.max_tokens", "null"]) == 0
        assert len(moved.answered) > before and "max_tokens" not in moved.bodies[-1]
        assert main([*again, "--endpoint_options.max_tokens", "7"]) == 2, "begun with another"
        moved.shutdown()


def test_an_endpoint_that_never_answers_is_an_error_that_says_so(server):
    server.script = ["empty"] * 99
    with pytest.raises(EndpointError, match=r"chapter 3: .*failed 8 times.*finish_reason 'length'"):
        list(writer_of(server).write([Request("chapter 3", "mark1", 9)]))
    assert len(server.asked) == 8


def test_answers_under_way_are_kept_when_another_fails(server):
    server.script = ["401"]
    found = {}
    with pytest.raises(ConfigError):
        for i, text in writer_of(server, batch_size=4).write(
            [Request("a", f"mark{n}", 9) for n in range(4)]
        ):
            found[i] = text
    assert len(found) == len(server.answered)


def test_an_endpoint_that_dies_in_the_middle_costs_no_call_twice(
    server, book, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(endpoint, "TRIES", 1)
    words = ["books", str(book), "--endpoint", server.url, "--endpoint_model", "m"]
    words += ["--run_dir", str(tmp_path / "run"), "--split", "val", "--batch_size", "3"]
    server.healthy = 12
    assert main(words) == 2
    directory = tmp_path / "run" / "books" / "novels"
    assert not (directory / "pairs.jsonl").exists()
    assert len(files.read_jsonl(directory.parent / "answers.jsonl")) == 12
    server.healthy = 10**9
    assert main([*words, "--temperature", "0.5"]) == 2
    assert "temperature: was 0.3, now 0.5" in " ".join(capsys.readouterr().err.split())
    how = ["--batch_size", "2", "--timeout", "60", "--key_variable", "NO_KEY"]
    assert main([*words, *how]) == 0  # how it runs may change
    assert len(server.answered) == len(set(server.answered))
    pairs = files.read_jsonl(directory / "pairs.jsonl")
    assert [sorted(pair) for pair in pairs] == [sorted(FIELDS)] * 7
    assert (pairs[0]["id"], pairs[0]["header"], pairs[0]["split"]) == (
        *("the-book-02", "Chapter 2: A Title", "val"),
    )
    summary = files.read_json(directory / "summary.json")
    assert (summary["cached"] >= 12, summary["calls"]) == (True, len(server.answered) - 12)
    asked = len(server.asked)
    assert main(words) == 0  # complete: nothing is asked
    assert main([*words, "--name", "fewer", "--limit", "3"]) == 0  # the same texts serve it
    assert len(server.asked) == asked
    book.write_text(book.read_text().replace("mark3", "mark33"))
    assert main(words) == 2  # other chapters under the same name


def test_without_a_writer_it_stops_after_chapters(book, tmp_path, capsys):
    with only_run(tmp_path / "run" / "books"):
        assert main(["books", str(book), "--run_dir", str(tmp_path / "run")]) == 2
    assert "another process writes to" in capsys.readouterr().err
    assert main(["books", str(book), "--run_dir", str(tmp_path / "run")]) == 0
    directory = tmp_path / "run" / "books" / "novels"
    told = " ".join(capsys.readouterr().err.split())
    assert "7 of 10 chapters make a pair" in told and "No pairs were written" in told
    assert "one of the last 2" in told
    rows = files.read_jsonl(directory / "chapters.jsonl")
    assert [row["why"] for row in rows][:2] == ["first chapter", None]
    assert files.read_json(directory / "summary.json")["novels"][0]["kept"] == 7
    assert not (directory / "pairs.jsonl").exists()


def test_a_local_model_writes(book, tmp_path, tiny_base):
    words = ["books", str(book), "--writer", str(tiny_base), "--run_dir", str(tmp_path / "run")]
    for name in story.WORDS:
        words += [f"--words.{name}", "8"]
    assert main([*words, "--limit", "2"]) == 0
    pairs = files.read_jsonl(tmp_path / "run" / "books" / "novels" / "pairs.jsonl")
    assert [pair["id"] for pair in pairs] == ["the-book-02", "the-book-03"]
    assert all(len(pair["synopsis"].split()) >= 3 for pair in pairs)


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        (
            ["--writer", "m", "--endpoint", "http://x", "--endpoint_model", "m"],
            "either --writer or",
        ),
        (["--endpoint", "http://x"], "go together"),
        (["--endpoint", "localhost:8000", "--endpoint_model", "m"], "expected a URL"),
        (["--words.sumary", "9"], "--words.sumary is unknown"),
        (["--words.summary", "few"], "whole numbers"),
        (["--endpoint_options.top_p", "1"], "--endpoint_options go with --endpoint"),
        (
            ["--endpoint", "http://x", "--endpoint_model", "m", "--endpoint_options.model", "n"],
            "--endpoint_options cannot change model",
        ),
        (["--limit", "0"], "--limit is 0"),
        (["--split", "dev"], "--split is 'dev'"),
        (["--split.other", "val"], "no such novel"),
        (["--endpoint", "http://x", "--endpoint_model", "m", "--context", "500"], "context of 500"),
    ],
)
def test_options_that_cannot_work_are_refused(book, tmp_path, capsys, extra, match):
    assert main(["books", str(book), "--run_dir", str(tmp_path / "run"), *extra]) == 2
    assert match in " ".join(capsys.readouterr().err.split())


def test_no_novel_and_no_file_are_refused(tmp_path, capsys):
    assert main(["books"]) == 2
    assert main(["books", str(tmp_path / "none.epub")]) == 2
    assert main(["books", str(tmp_path)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "name at least one novel" in told and "no such file" in told and "is a directory" in told
