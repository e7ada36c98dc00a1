"""Files are whole or absent; bad JSON lines are named by number."""

import json
import os
from pathlib import Path

import pytest

from litereason import files
from litereason.errors import DataError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def broken_rename(monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)


def test_write_text_writes_utf8_and_makes_parents(tmp_path):
    path = files.write_text(tmp_path / "a" / "b.txt", "naïve ∀\n")
    assert path.read_bytes() == "naïve ∀\n".encode()
    assert names(path.parent) == ["b.txt"]


def test_write_text_that_cannot_encode_leaves_the_old_file(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_write_text_that_cannot_rename_leaves_the_old_file(tmp_path, broken_rename):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        files.write_text(tmp_path / "a.txt", "new")
    assert ((tmp_path / "a.txt").read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_write_jsonl_that_breaks_in_the_middle_leaves_the_old_file(tmp_path):
    path = files.write_jsonl(tmp_path / "a.jsonl", [{"n": 1}])
    with pytest.raises(TypeError):
        files.write_jsonl(path, [{"n": 2}, {"n": object()}])
    assert files.read_jsonl(path) == [{"n": 1}]


def test_new_directory_appears_whole(tmp_path):
    target = tmp_path / "deep" / "model"
    with files.new_directory(target) as partial:
        (partial / "weights").write_text("new")
        assert not target.exists()
    assert (target / "weights").read_text() == "new"
    assert names(target.parent) == ["model"]


def test_new_directory_replaces_the_old_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").touch()
    with files.new_directory(target) as partial:
        (partial / "weights").touch()
        assert names(target) == ["stale"]
    assert (names(target), names(tmp_path)) == (["weights"], ["model"])


def test_new_directory_that_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.new_directory(target) as partial:
        (partial / "weights").write_text("half")
        raise KeyboardInterrupt
    assert ((target / "weights").read_text(), names(tmp_path)) == ("old", ["model"])


def test_new_directory_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    rename = Path.rename

    def fail(self, to):
        if (self / "weights").read_text() == "new":
            raise OSError("disk full")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk full"), files.new_directory(target) as partial:
        (partial / "weights").write_text("new")
    assert ((target / "weights").read_text(), names(tmp_path)) == ("old", ["model"])


def test_json_lines_come_back(tmp_path):
    rows = [{"text": "a\nb\u2028c\x85d\x0ce\r", "n": None}, {"é": [1, 2.5]}]
    assert files.read_jsonl(files.write_jsonl(tmp_path / "a.jsonl", rows)) == rows


def test_u2028_in_a_string_is_no_line_break(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x\u2028y\x85z"}\n\n{"a": 2}', encoding="utf-8")
    assert files.read_jsonl(tmp_path / "a.jsonl") == [{"a": "x\u2028y\x85z"}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "\u2028"}\n\n{"a": }\n', r"a\.jsonl, line 3: not JSON \(Expecting value\)"),
        ('{"a": 1}\n[1]\n', r"a\.jsonl, line 2: expected a JSON object, got '\[1\]'"),
        ('{"a": 1} {"a": 2}\n', r"a\.jsonl, line 1: not JSON \(Extra data\)"),
        ("", r"a\.jsonl is empty"),
        ("\n \n", r"a\.jsonl is empty"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        files.read_jsonl(tmp_path / "a.jsonl")


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: not UTF-8"):
        files.read_jsonl(tmp_path / "a.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*none\.jsonl"):
        files.read_jsonl(tmp_path / "none.jsonl")


def test_read_json_names_the_line(tmp_path):
    path = files.write_json(tmp_path / "a.json", {"é": [1]})
    assert (files.read_json(path), json.loads(path.read_text(encoding="utf-8"))) == (
        {"é": [1]},
        {"é": [1]},
    )
    path.write_text('{\n"a": 1,\n}')
    with pytest.raises(DataError, match=r"a\.json, line 3: not JSON"):
        files.read_json(path)


def test_a_damaged_line_of_a_record_is_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"a": 1}\n\0\0\0\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"answers.jsonl, line 2: damaged .* Delete the line"):
        files.finished_lines(path)
    path.write_bytes(b'{"a": 1}\n{"a":')
    assert files.finished_lines(path) == [{"a": 1}] and path.read_bytes() == b'{"a": 1}\n'
