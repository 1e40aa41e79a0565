"""`osum data pack`: published shards that hold what the manifest says, all of them or none."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum import cli
from mindspore_osum.data.batches.batching import samples
from mindspore_osum.data.checks import Errors
from mindspore_osum.data.formats.shard_writer import pack
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.speech.audio import load_audio
from tests.data.formats.tars import sound

LINE = {"key": "a", "wav": "a.wav", "txt": "hi<OLD>", "task": "<TRANSCRIBE> <AGE>"}


@pytest.fixture
def folder(tmp_path):
    for name, kind in (("a.wav", "WAV"), ("b.flac", "FLAC"), ("c.aiff", "AIFF")):
        (tmp_path / name).write_bytes(sound(1.0, kind=kind))
    damaged = bytearray(sound(1.0, kind="FLAC"))
    damaged[4000:5000] = bytes(1000)
    (tmp_path / "damaged.flac").write_bytes(damaged)
    return tmp_path


def write(folder, *lines):
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    return folder / "m.jsonl"


def told(utterances):
    """All but where they lie."""
    return [replace(u, wav=None, where="", start=None, end=None) for u in utterances]


def run(capsys, *args):
    status = cli.main(["data", "pack", *map(str, args)])
    return status, *capsys.readouterr()


def test_a_round_trip_is_equal_and_repeats_in_bytes(folder, capsys):
    path = write(
        folder,
        {**LINE, "lang": "en", "speaker": 7, "extra": {"age": "OLD", "speech_token": [1, 2]}},
        {**LINE, "key": "spk/b.x", "wav": "b.flac"},
        {**LINE, "key": "c" * 150, "wav": "c.aiff"},
        {**LINE, "key": "你", "start": 0.25, "end": 0.75},
        {"key": "t", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "写"}},
    )
    status, out, err = run(capsys, path, folder / "one", "--per-shard", 2)
    assert (status, err) == (0, "")
    assert out == f"{folder}/one/shards.list: 3 shards, 5 utterances, 0 errors left out\n"
    run(capsys, path, folder / "deep/two", "--per-shard", 2)
    names = ["shard_00000.tar", "shard_00001.tar", "shard_00002.tar", "shards.list"]
    assert sorted(p.name for p in (folder / "one").iterdir()) == names
    for name in names:
        assert (folder / "one" / name).read_bytes() == (folder / "deep/two" / name).read_bytes()
    before, after = (read_manifest(p, strict=True)[0] for p in (path, folder / "one/shards.list"))
    assert told(before) == told(after)
    for one, other in zip(before[:2], after[:2]):
        assert np.array_equal(load_audio(one.wav), load_audio(other.wav))
    for one, other in zip(before[2:4], after[2:4]):  # rounded to 16 bits
        np.testing.assert_allclose(samples(one), samples(other), rtol=0, atol=2**-15)
    with tarfile.open(folder / "one/shard_00000.tar") as tar:
        texts = {m.name: tar.extractfile(m).read() for m in tar if not m.name.endswith((".wav", ".flac"))}
        assert tar.extractfile("spk/b.x.flac").read() == (folder / "b.flac").read_bytes()
    assert (texts["a.lang"], texts["a.speaker"], texts["a.task"]) == (b"en", b"7", LINE["task"].encode())
    assert json.loads(texts["a.extra"]) == {"age": "OLD"} and texts["a.txt"] == b"hi<OLD>"
    packed = [path.stat().st_mode & 0o777 for path in (folder / "one").iterdir()]
    assert set(packed) == {path.stat().st_mode & 0o777}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"wav": "none.wav"}, "none.wav: no such audio file"),
        ({"wav": "damaged.flac", "end": 0.5}, "damaged.flac: "),
        ({"txt": "hi"}, "no age in 'hi'"),
        ({"lang": "\ud800"}, "holds half of a character"),
        ({"key": "a"}, "is there twice"),
        ({"key": "../up"}, "key '../up' cannot name files in a tar"),
        ({"key": ".a"}, "cannot name files in a tar; begin none with a dot"),  # would be left out in reading
        ({"key": "/abs"}, "cannot name files in a tar"),
        ({"key": "a\n"}, "control characters"),
        ({"mp3": "x"}, "'mp3' cannot be the name of a member"),
        ({"a.b": "x"}, "'a.b' cannot be the name of a member"),
        ({"task": 3}, "'task' must be"),
    ],
)
def test_mistakes_stop_it_and_leave_nothing(folder, capsys, line, says):
    path = write(folder, LINE, {**LINE, "key": "b", **line}, {**LINE, "key": "c"})
    there = sorted(folder.iterdir())
    status, out, err = run(capsys, path, folder / "out", "--per-shard", 1)
    assert (status, out) == (1, "") and err.startswith(f"osum: {path}:2: ") and says in err
    assert sorted(folder.iterdir()) == there
    status, out, _ = run(capsys, path, folder / "out", "--max-errors", 1)
    assert status == 0 and out.startswith(f"left out: {path}:2: ") and "2 utterances, 1 errors" in out
    assert [u.key for u in read_manifest(folder / "out/shard_00000.tar")[0]] == ["a", "c"]


def test_nothing_is_overwritten(folder, capsys):
    path = write(folder, LINE)
    (folder / "out").mkdir()
    assert run(capsys, path, folder / "out")[0] == 0  # an empty folder is nothing
    status, _, err = run(capsys, path, folder / "out")
    assert status == 1 and "is there already and not an empty folder" in err
    assert run(capsys, path, folder / "a.wav")[0] == 1
    assert run(capsys, path, folder / "a.wav/out")[0] == 1
    assert run(capsys, path, folder / "new", "--per-shard", 0)[0] == 1
    (folder / "m.jsonl").write_text("")
    status, _, err = run(capsys, path, folder / "new")
    assert status == 1 and "no usable line" in err and not (folder / "new").exists()


KEYS = st.text(
    st.characters(exclude_characters="/\\\x7f", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=90
).filter(lambda key: key[0] != "." and key.strip() and is_plain(key))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda x: st.lists(x, max_size=2))

EXTRA = st.dictionaries(TEXTS, JSON, max_size=3)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, st.tuples(TEXTS, EXTRA), min_size=1, max_size=4), st.integers(1, 3))
def test_any_text_survives(tmp_path_factory, samples_of, per_shard):
    folder = tmp_path_factory.mktemp("pack")
    soundfile.write(folder / "a.wav", np.zeros(1600), 16000)
    path = write(
        folder,
        *(
            {"key": key, "wav": "a.wav", "txt": txt, "task": "<S2TCHAT>", "extra": extra}
            for key, (txt, extra) in samples_of.items()
        ),
    )
    counts = pack(path, folder / "out", per_shard, Errors(strict=True))
    assert counts == (len(samples_of), -(-len(samples_of) // per_shard))
    before, after = (read_manifest(p, strict=True)[0] for p in (path, folder / "out/shards.list"))
    assert told(before) == told(after)


def test_a_disk_that_fails_is_one_line(folder):
    path = write(folder, LINE)
    with pytest.raises(UserError, match="a.wav"):
        pack(path, folder / "a.wav" / "out", 1, Errors())
