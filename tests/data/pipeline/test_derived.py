"""Files of lines that a step of the pipeline cannot write are refused before any work."""

from pathlib import Path

import pytest

from tests.data.formats.tars import sound

LINES = [{"key": "u0", "wav": "a.wav", "txt": "hi<SAD>", "task": "<TRANSCRIBE> <EMOTION>", "extra": {}}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--output", "one.jsonl"], "--output one.jsonl: is read by this command"),
        (["--output", "o.txt"], "o.txt: give --output a name that ends in .jsonl, or for shards in .list"),
        (["--output", "folder"], "--output folder: is a folder"),
        (["--output", "a.wav/o.jsonl"], "--output a.wav/o.jsonl: cannot write in "),
        (["--output", "o.jsonl", "--rest", "two.jsonl"], "--rest two.jsonl: is read by this command"),
        (["--output", "o.jsonl", "--rest", "folder/../o.jsonl"], "o.jsonl: is the same file as --output"),
        (["--output", "o.jsonl", "--report", "folder"], "--report folder: is a folder"),
        (["--output", "o.jsonl", "--report", "a.wav/r.json"], "--report a.wav/r.json: cannot write in "),
        (["--output", "o.jsonl", "--max-errors", "-1"], "--max-errors -1: must be 0 or more"),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path, write_set, data, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(sound())
    (tmp_path / "folder").mkdir()
    for name in ("one.jsonl", "two.jsonl"):
        write_set(name, LINES)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    status, _, err = data("intersect", "one.jsonl", "two.jsonl", *options)
    assert status == 1 and says in err and err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_the_folder_of_a_report_is_made(tmp_path, write_set, data):
    paths = [write_set(name, LINES) for name in ("one.jsonl", "two.jsonl")]
    report = tmp_path / "new/r.json"
    assert data("intersect", *paths, "--output", tmp_path / "o.jsonl", "--report", report)[0] == 0
    assert report.is_file()


@pytest.mark.parametrize("output", ["o.txt", "set.jsonl"])
def test_words_and_labels_are_not_begun(tmp_path, write_set, data, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    write_set("set.jsonl", LINES)
    for step in (
        ["words", "--model", "none"],
        ["label", "--task", "ser", "--url", "http://x", "--model", "m"],
    ):
        status, _, err = data(step[0], "set.jsonl", *step[1:], "--output", output)
        assert status == 1 and output in err and err.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"set.jsonl", "a.wav"}


def test_nothing_to_write_says_so(tmp_path, write_set, data):
    (tmp_path / "a.ctm").write_text("x 1 0.1 0.1 hi\n")
    options = ["--times", tmp_path / "a.ctm", "--output", tmp_path / "o.jsonl"]
    status, out, err = data("words", write_set("set.jsonl", LINES), *options)
    assert status == 1 and "1 left out, no times for it" in out and "nothing to write" in err
    status, out, err = data("words", write_set("empty.jsonl", []), *options)
    assert status == 1 and not out and "the sources have no utterance" in err
