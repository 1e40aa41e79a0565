"""Byte order marks are dropped from every text file, other encodings are one line, and nothing runs away."""

import json

import pytest

from mindspore_osum.data.augment import read_noise_list
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.errors import UserError
from tests.data.formats.tars import sample, sound, write_tar

MARK = b"\xef\xbb\xbf"
LINES = [json.dumps({"key": key, "wav": "a.wav", "txt": "你好", "task": "<TRANSCRIBE>"}) for key in "ab"]


def write(folder, name, text, coding="utf-8-sig"):
    (folder / name).write_bytes(text.encode(coding))
    return folder / name


def texts(path):
    items = list(open_source(path))
    assert not [item.text for item in items if isinstance(item, Skipped)]
    return [(item.key, item.txt) for item in items]


def test_marks_of_windows_are_dropped(tmp_path):
    for name in ("m.jsonl", "m.list"):  # at the beginning, and where two files were put together
        assert texts(write(tmp_path, name, "\n\ufeff".join(LINES))) == [("a", "你好"), ("b", "你好")]
    assert texts(write(tmp_path, "m.json", f"[{','.join(LINES)}]")) == [("a", "你好"), ("b", "你好")]
    texts_of_u = {"txt": b"hello", "task": b"<AGE>", "extra": b'{"age": "OLD"}'}
    members = [(f"u.{name}", MARK + text) for name, text in texts_of_u.items()]
    write_tar(tmp_path / "s.tar", [("u.wav", sound()), *members])
    write(tmp_path, "new.jsonl", json.dumps({"key": "u", "txt": "new", "task": "<AGE>", "extra": {}}))
    for line, txt in (("s.tar", "hello"), ("-|s.tar", "hello"), ("new.jsonl|s.tar", "new")):
        (item,) = open_source(write(tmp_path, "shards.list", line))
        assert (item.key, item.txt, item.task) == ("u", txt, "<AGE>")
    (tmp_path / "a.wav").write_bytes(sound())
    assert read_noise_list(write(tmp_path, "noise.list", "a.wav\n")) == [f"{tmp_path}/a.wav"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_one_line(tmp_path, coding):
    for name in ("m.jsonl", "m.json", "m.list"):
        path = write(tmp_path, name, "\n".join(LINES), coding)
        with pytest.raises(UserError, match=f"^{path}: not text in UTF-8 but in UTF-16 or UTF-32; save the"):
            list(open_source(path))
    write_tar(tmp_path / "s.tar", [("u.wav", sound()), ("u.txt", "hi".encode(coding))])
    (problem,) = open_source(tmp_path / "s.tar")
    assert problem.text.startswith(f"{tmp_path}/s.tar:u: u.txt: not text in UTF-8 but in UTF-16")


def test_files_of_macos_are_left_out_of_shards(tmp_path):
    """`._name` stands beside each file, before it or in a folder; it is neither a sample nor an error."""
    junk = b"\0\5\x16\7" + b"\0" * 78
    (wav, txt, task), (other, *_) = sample("x/u"), sample("v")
    names = ["._u.wav", "x/._u.txt", "__MACOSX/x/._u.txt", ".DS_Store", "x/.hidden.txt"]
    members = [(names[0], junk), wav, (names[1], junk), txt, (names[2], junk), task, (names[3], b"x")]
    path = write_tar(tmp_path / "s.tar", [*members, (names[4], junk), other, ("v.txt", b"there")])
    assert texts(path) == [("x/u", "hello"), ("v", "there")]
    assert texts(write_tar(path, [(f"./{name}", data) for name, data in members])) == [("./x/u", "hello")]


def test_names_with_control_characters(tmp_path):
    """They are shown escaped, on one line, and make no samples."""
    bad = "a\nosum: all is well\x1b[2J.wav"
    path = write_tar(tmp_path / "s.tar", [(bad, sound()), *sample("b")])
    problem, good = open_source(path)
    assert isinstance(good, Utterance) and good.key == "b"
    assert problem.text.isprintable() and r"a\nosum: all is well\x1b[2J" in problem.text
    for name in ("a\0b.tar", "a\x1b[31mb.tar"):
        (problem,) = open_source(write(tmp_path, "shards.list", name))
        assert problem.error and problem.text.isprintable() and repr(name)[1:-1] in problem.text
