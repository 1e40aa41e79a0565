"""Published shards, lists of them and combinations, read without unpacking."""

import gzip
import json
import tarfile

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source, read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import duration_seconds, load_audio
from mindspore_osum.speech.opening import FilePart
from tests.data.formats.tars import sample, sound, write_tar


def read(path):
    """(utterances, skipped) of a source."""
    items = list(open_source(path))
    return [i for i in items if isinstance(i, Utterance)], [i for i in items if isinstance(i, Skipped)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_published_shard(tmp_path, form):
    extra = {"age": "OLD", "speech_token": [1] * 1000}
    long = "folder/" * 12 + "name.with.dots" + "x" * 60  # more than the 100 bytes of the plain header
    path = write_tar(
        tmp_path / "s.tar",
        [
            *sample("a", " hi\n", "<TRANSCRIBE> <AGE>", extra),
            ("a.lang", b"en"),
            ("a.wav_1", b"history"),
            *sample(long, "你好", None, suffix="flac", audio=sound(kind="FLAC")),
            *sample("t", "<asr>", "<INTENT_CLASSIFICATION>", {"intent": "write"}, audio=None),
        ],
        form,
    )
    (first, second, third), skipped = read(path)
    assert not skipped
    assert (first.key, first.txt, first.task) == ("a", "hi", "<TRANSCRIBE> <AGE>")
    assert first.extra == {"age": "OLD"} and first.where == f"{path}:a"  # speech tokens are not kept
    assert (second.key, second.txt, second.task) == (long, "你好", "<TRANSCRIBE>")  # published default
    assert third.wav is None and third.extra == {"intent": "write"}
    with tarfile.open(path) as tar:
        for utt, name in ((first, "a.wav"), (second, f"{long}.flac")):
            member = tar.getmember(name)
            assert utt.wav == FilePart(str(path), member.offset_data, member.size, name)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_recording_in_a_tar_is_what_it_is_outside(tmp_path, kind):
    audio = sound(1.0, 3, kind)
    path = write_tar(tmp_path / "s.tar", [*sample("before"), *sample("a", audio=audio, suffix=kind.lower())])
    part = read(path)[0][1].wav
    assert np.array_equal(load_audio(part), load_audio(audio))
    assert duration_seconds(part) == duration_seconds(audio)


def test_an_error_names_the_member(tmp_path):
    path = write_tar(tmp_path / "s.tar", sample("a", audio=sound()[:30]))
    with pytest.raises(UserError, match=f"^{path}:a.wav: "):
        load_audio(read(path)[0][0].wav)


def test_lists_and_combinations(tmp_path):
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", [*sample(f"{name}1", "old"), *sample(f"{name}2", "old")])
    lines = [
        {"key": "b1", "txt": "new<OLD>", "task": "<TRANSCRIBE> <AGE>", "extra": {"age": "OLD"}},
        {"key": "b9", "txt": "x", "task": "<TRANSCRIBE>", "extra": {}},
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (tmp_path / "shards.list").write_text(f"a.tar\n\n-|{tmp_path / 'a.tar'}\nnew.jsonl|b.tar\n", "utf-8")
    utterances, skipped = read(tmp_path / "shards.list")
    assert [(u.key, u.txt) for u in utterances] == [("a1", "old"), ("a2", "old")] * 2 + [("b1", "new<OLD>")]
    last = utterances[-1]
    assert last.task == "<TRANSCRIBE> <AGE>" and last.extra == {"age": "OLD"} and last.wav.name == "b1.wav"
    assert [(s.error, s.text.split(": ")[0]) for s in skipped] == [
        (False, f"{tmp_path}/b.tar:b2"),
        (False, f"{tmp_path}/b.tar:b9"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("none.tar", "cannot read the shard"),
        ("folder", "not a file"),
        ("a|b|c.tar", "expected the path"),
        ("https://host/a.tar", "expected the path"),
        ("none.jsonl|a.tar", "cannot read the manifest"),
        ("poor.jsonl|a.tar", "needs key, txt, task and extra"),
        ("bad.jsonl|a.tar", "not a JSON object"),
        ("\udcff", "not text in UTF-8"),
    ],
)
def test_lines_of_a_list_that_cannot_be_used(tmp_path, line, says):
    write_tar(tmp_path / "a.tar", sample("a"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "poor.jsonl").write_text('{"key": "a", "txt": "x"}')
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "l.list").write_bytes(f"a.tar\n{line}\n".encode("utf-8", "surrogateescape"))
    utterances, (problem,) = read(tmp_path / "l.list")
    assert [u.key for u in utterances] == ["a"]
    assert problem.error and says in problem.text and str(tmp_path) in problem.text


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (sample("x", audio=None), "s.tar:x: task <TRANSCRIBE> needs a recording"),
        (sample("x", ""), "s.tar:x: 'txt' must be a text that is not empty"),
        ([("x.wav", b"RIFF")], "s.tar:x: 'txt' must be"),
        ([*sample("x"), ("x.flac", b"")], "s.tar:x.flac: the sample has two of these"),
        ([*sample("x", "x", audio=None, task=None), ("noname", b"")], "noname: no name like key.txt"),
        ([("x.txt", b"\xff"), ("x.wav", sound())], "s.tar:x: x.txt: not text in UTF-8"),
        ([*sample("x"), ("x.extra", b"[1]")], "'extra': expected an object {...}, found list"),
        ([*sample("x"), ("x.extra", b"{")], "'extra': not a JSON object"),
        ([("x.txt", b"x" * (2**20 + 1)), ("x.wav", b"")], "has 1048577 bytes, a text has at most"),
        ([*sample("x"), *sample("y"), *sample("x")], "s.tar:x: key 'x' is there twice"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path, members, says):
    utterances, skipped = read(write_tar(tmp_path / "s.tar", [*sample("first"), *members, *sample("last")]))
    assert [u.key for u in utterances][:1] == ["first"] and utterances[-1].key == "last"
    assert any(s.error and says in s.text for s in skipped), skipped


ABSOLUTE = "/" + "tmp/osum-absolute"


def test_names_are_never_paths(tmp_path):
    (tmp_path / "in").mkdir()
    path = write_tar(tmp_path / "in" / "s.tar", [*sample("../out"), *sample(ABSOLUTE)])
    utterances, skipped = read(path)
    assert [u.key for u in utterances] == ["../out", ABSOLUTE] and not skipped
    assert len(load_audio(utterances[0].wav)) == 4800
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "s.tar"]


def test_a_compressed_shard_is_refused_with_the_remedy(tmp_path):
    plain = write_tar(tmp_path / "p.tar", sample("a")).read_bytes()
    (tmp_path / "s.tar").write_bytes(gzip.compress(plain))
    with pytest.raises(UserError, match="s.tar: is compressed .gzip.; unpack it"):
        read_manifest(tmp_path / "s.tar")


def test_the_content_decides_where_the_suffix_does_not(tmp_path):
    write_tar(tmp_path / "a.tar", sample("a"))
    soundfile.write(tmp_path / "b.wav", np.zeros(100), 16000)
    line = json.dumps({"key": "b", "wav": "b.wav", "txt": "x", "task": "<TRANSCRIBE>"})
    (tmp_path / "raw.list").write_text(f"\n{line}\n")
    (tmp_path / "tar.list").write_text("a.tar\n")
    assert [u.key for u in read_manifest(tmp_path / "raw.list")[0]] == ["b"]
    assert [u.key for u in read_manifest(tmp_path / "tar.list")[0]] == ["a"]
    with pytest.raises(UserError, match="none.tar: no such shard"):
        list(open_source(tmp_path / "none.tar"))
    with pytest.raises(UserError, match="is a folder; give the manifests or shards in it"):
        list(open_source(tmp_path))


def test_evaluation_and_inference_take_shards(tmp_path):
    from mindspore_osum.evaluation.evalset import read_eval_set
    from mindspore_osum.inference.inquiry import name_of

    path = write_tar(tmp_path / "s.tar", [*sample("a"), *sample("b", "x<OLD>", "<TRANSCRIBE> <AGE>")])
    asked = read_eval_set(str(path), ["fixed"])
    assert [q.request.words for q in asked.questions] == ["<asr>", "<asr><age>"]
    assert not any(asked.problems.values())
    assert [name_of(u) for u in asked.utterances] == [f"{path}:a.wav", f"{path}:b.wav"]
