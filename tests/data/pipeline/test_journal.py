"""What a long command has done: kept in order, found by key, and cut after its last complete line."""

from dataclasses import replace

import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.pipeline import journal
from mindspore_osum.data.pipeline.journal import Journal, journal_beside
from mindspore_osum.errors import UserError
from mindspore_osum.speech.opening import FilePart


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("rest", [b"", b'{"key": "c', b'{"key": "c", "x": 3}'])
def test_it_goes_on_after_the_last_complete_line(tmp_path, monkeypatch, block, rest):
    monkeypatch.setattr(journal, "_BLOCK", block)
    path, settings = tmp_path / "j", {"seed": 1, "名": "x"}
    first = Journal(path, settings)
    first.add({"key": "a", "x": [1, "天"]})
    first.add({"key": "b", "x": 2})
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    again = Journal(path, settings)
    assert (
        len(again) == 2 and "a" in again and "c" not in again and again["a"] == {"key": "a", "x": [1, "天"]}
    )
    again.add({"key": "c", "x": 3})
    assert [again[key]["x"] for key in "cba"] == [3, 2, [1, "天"]]
    assert path.read_bytes() == whole + b"".join([*again.lines()][2:])
    again.remove()
    assert not path.exists()


@pytest.mark.parametrize("start", [b"", b'{"settings": {"se'])
def test_one_that_never_began_begins_anew(tmp_path, start):
    (tmp_path / "j").write_bytes(start)
    new = Journal(tmp_path / "j", {"seed": 2})
    assert not len(new)
    new.close()
    assert not (tmp_path / "j").exists()  # there is nothing to go on from


def test_another_command_or_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "j"
    one = Journal(path, {"seed": 1})
    one.add({"key": "a"})
    one.close()
    with pytest.raises(UserError, match=r"with other settings \(seed\); give the same ones, or remove it"):
        Journal(path, {"seed": 2})
    whole = path.read_bytes()
    for line in (b'{"kee": "b"}', b"5", b"\xff{", b'{"key": 1}'):
        path.write_bytes(whole + line + b"\n")
        with pytest.raises(UserError, match="j:3: no line of this command, .*; remove folder to begin anew"):
            Journal(path, {"seed": 1}, "folder")


def test_it_is_kept_if_the_command_fails(tmp_path):
    out = tmp_path / "new/out.jsonl"
    with pytest.raises(KeyboardInterrupt), journal_beside(out, {}) as kept:
        kept.add({"key": "a"})
        raise KeyboardInterrupt
    with journal_beside(out, {}) as kept:
        assert "a" in kept
    assert not [*out.parent.iterdir()]


SOURCE = Utterance("a", "/a.wav", "天", "<TRANSCRIBE>", {"lang": "zh"}, where="m.jsonl:1")
CHANGES = (
    {"txt": "地"},
    {"wav": "/b.wav"},
    {"wav": FilePart("/a.tar", 512, 100, "a.wav")},
    {"task": "<EMOTION>"},
    {"extra": {"lang": "en"}},
    {"start": 0.0},
    {"end": 2.0},
)


def test_a_source_whose_line_has_changed_is_noticed(tmp_path):
    kept = Journal(tmp_path / "j", {}, tmp_path)
    kept.add({"key": "a-snr5", "txt": "天"}, SOURCE)
    kept.check("a-snr5", replace(SOURCE, where="m.jsonl:7"))  # a line may stand elsewhere
    for change in CHANGES:
        with pytest.raises(UserError, match="^m.jsonl:1: its line has changed since .*; remove"):
            kept.check("a-snr5", replace(SOURCE, **change))
    assert list(kept.lines()) == ['{"key": "a-snr5", "txt": "天"}\n'.encode()]
