"""Text appears whole or not at all; JSON is an object within its bounds, or one line says what it is."""

import os
import re

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json, replacing, whole_lines, write_text


def test_text_is_written_as_it_is(tmp_path):
    """UTF-8 and line ends as given, with the permissions of an ordinary file, over what was there."""
    path, plain = tmp_path / "a.txt", tmp_path / "plain"
    plain.touch()
    for text in ("你好\r\n\n", ""):
        write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
        assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "plain"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError, ValueError])
def test_what_fails_changes_nothing(tmp_path, fault):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(fault), replacing(path) as file:
        file.write(b"half")
        raise fault
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "before"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a.txt", "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.txt: cannot write there \(No space left on device\)$"):
        write_text(tmp_path / "a.txt", "after")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none/a\.txt: cannot write there \(No such file or directory\)$"):
        write_text(tmp_path / "none/a.txt", "x")


def test_a_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "a.jsonl"
    for data, lines, left in ((b"a\nb\nc", [b"a", b"b"], b"a\nb\n"), (b"a", [], b""), (b"", [], b"")):
        path.write_bytes(data)
        assert whole_lines(path) == lines and path.read_bytes() == left


@pytest.mark.parametrize(
    "data, message",
    [
        (b"{", "not a JSON object in UTF-8 (Expecting property name"),
        (b'{"a": "\xff"}', "not a JSON object in UTF-8"),
        (b"[" * 100_000, "not a JSON object in UTF-8"),
        (b"[1]", "expected an object {...}, found list"),
        (b'{"a": ' + b"[" * 51 + b"]" * 51 + b"}", "more than 50 objects or lists in one another"),
        (b'{"a": "\\ud800"}', "holds half of a character"),
        (b'{"a": "' + b"x" * 100 + b'"}', "larger than 100 bytes, not a list of things"),
    ],
)
def test_what_is_no_object_is_one_line(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    most = 100 if "larger" in message else 1 << 20
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")) as caught:
        read_json(path, "a list of things", most)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path):
    for name, why in (
        ("none.json", "No such file or directory"),
        (".", "Is a directory"),
        ("a\0", "null byte"),
    ):
        with pytest.raises(UserError, match=re.escape("cannot read it (") + ".*" + why):
            read_json(f"{tmp_path}/{name}")


def test_an_object_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(' {"a": [1, {"b": "好 \\ud83d\\ude00"}]}\n', "utf-8")
    assert read_json(path, most=path.stat().st_size) == {"a": [1, {"b": "好 😀"}]}
