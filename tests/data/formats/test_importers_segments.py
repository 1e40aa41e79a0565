"""`osum data import wenetspeech`: parts of long recordings, with their times or cut, from a streamed JSON."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.formats import json_array
from mindspore_osum.data.formats.importers import json_files
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.speech.audio import load_audio
from tests.data.formats.layouts import RATE, SOUND, lay_out, left_out, lines

LONG = "audio/test_net/youtube/B00000/Y0000000000_x.wav"


def wenetspeech(segments, path=LONG) -> str:
    return json.dumps(
        {
            "version": "v1",
            "audios": [
                {"aid": "Y0", "duration": 3.0, "path": path, "segments": segments},
                {
                    "aid": "Y1",
                    "duration": 3.0,
                    "path": "audio/train/Y1.opus",
                    "segments": [
                        {"sid": "Y1_S1", "begin_time": 0, "end_time": 1, "text": "缺", "subsets": ["L", "M"]},
                        {"sid": "Y1_S2", "begin_time": 1, "end_time": 2, "text": "缺", "subsets": ["L"]},
                    ],
                },
            ],
        },
        ensure_ascii=False,
        indent=2,
    )


SEGMENTS = [
    {"sid": "Y0_S1", "begin_time": 0.25, "end_time": 0.75, "text": "一 二", "subsets": ["TEST_NET"]},
    {"sid": "Y0_S2", "begin_time": 2.0, "end_time": 3.005, "text": "三四", "subsets": ["TEST_NET"]},
    {"sid": "Y0_S3", "begin_time": 2.9, "end_time": 3.5, "text": "五", "subsets": ["TEST_NET"]},
    {"sid": "Y0_S4", "begin_time": 1.0, "end_time": 1.0, "text": "空", "subsets": ["TEST_NET"]},
    {"sid": "Y0_S5", "begin_time": 1.0, "end_time": 2.0, "text": "别", "subsets": ["DEV"]},
]


def noise(seconds: float, rate: int) -> np.ndarray:
    """Smooth noise, so that lossy codecs keep it and a shift in time shows."""
    white = np.random.default_rng(0).normal(size=round(seconds * rate) + 64)
    return (np.convolve(white, np.hanning(65) / 8, "valid") * 0.1).astype(np.float32)


def test_segments_keep_their_times(osum, tmp_path):
    root = lay_out(tmp_path / "corpus", {LONG: SOUND, "WenetSpeech.json": wenetspeech(SEGMENTS)})
    soundfile.write(root / LONG, noise(3, RATE), RATE)
    status, printed, _ = osum("wenetspeech", {})
    assert status == 0
    utterances, _ = read_manifest(tmp_path / "out" / "wenetspeech-TEST_NET-asr.jsonl", strict=True)
    assert [(u.key, u.txt, u.start, u.end) for u in utterances] == [
        ("Y0_S1", "一二", 0.25, 0.75),
        ("Y0_S2", "三四", 2.0, 3.005),
        ("Y0_S3", "五", 2.9, 3.5),
    ]
    assert left_out(tmp_path / "out", "wenetspeech-TEST_NET-asr") == {"malformed": 1}
    assert lines(tmp_path / "out", "wenetspeech-DEV-asr") == {"Y0_S5": "别"}
    assert "wenetspeech-L-asr: 0 utterances, no manifest\n  2 left out, no recording; first: " in printed
    assert f"{root / 'audio/train/Y1.opus'} (2 segments)" in printed
    assert "wenetspeech-S-" not in printed  # nothing of it in the list


def test_a_split_that_was_asked_for_must_give_something(osum):
    files = {LONG: SOUND, "WenetSpeech.json": wenetspeech(SEGMENTS)}
    status, _, error = osum("wenetspeech", files, "--split", "L")
    assert status == 1 and "wenetspeech-L-asr: nothing to import: 2 no recording (first: " in error


@pytest.mark.parametrize(
    ("suffix", "rate", "error"), [("wav", 16_000, 2e-4), ("flac", 44_100, 2e-2), ("opus", 48_000, 5e-2)]
)
def test_cut_segments_hold_their_part_of_the_recording(suffix, rate, error, osum, tmp_path):
    path = LONG.replace("wav", suffix)
    root = lay_out(tmp_path / "corpus", {path: b"", "WenetSpeech.json": wenetspeech(SEGMENTS, path)})
    kind = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(root / path, noise(3, rate), rate, **kind)
    whole_N, _ = soundfile.read(root / path, dtype="float32")
    assert osum("wenetspeech", {}, "--split", "TEST_NET", "--cut")[0] == 0
    utterances, _ = read_manifest(tmp_path / "out" / "wenetspeech-TEST_NET-asr.jsonl", strict=True)
    assert [(u.key, u.start, u.end) for u in utterances] == [("Y0_S1", None, None), ("Y0_S2", None, None)]
    assert left_out(tmp_path / "out", "wenetspeech-TEST_NET-asr") == {
        "malformed": 1,
        "segment outside its recording": 1,
    }
    for utt, (start, end) in zip(utterances, [(0.25, 0.75), (2.0, 3.0)]):
        cut_N, cut_rate = soundfile.read(utt.wav, dtype="float32")
        want_N = load_audio((whole_N[round(start * rate) : round(end * rate)], rate))
        assert cut_rate == RATE and cut_N.shape == want_N.shape
        assert np.abs(cut_N - want_N).max() <= error * np.abs(want_N).max() + 2**-15
    assert Path(utterances[0].wav) == tmp_path / "out" / "wav" / Path(path).stem / "Y0_S1.wav"


def test_cutting_again_keeps_the_files(osum, tmp_path):
    root = lay_out(tmp_path / "corpus", {LONG: SOUND, "WenetSpeech.json": wenetspeech(SEGMENTS[:1])})
    soundfile.write(root / LONG, noise(3, RATE), RATE)
    stamps = set()
    for _ in range(2):
        assert osum("wenetspeech", {}, "--split", "TEST_NET", "--cut")[0] == 0
        (utt,), _ = read_manifest(tmp_path / "out" / "wenetspeech-TEST_NET-asr.jsonl", strict=True)
        stamps.add(os.stat(utt.wav).st_mtime_ns)
    assert len(stamps) == 1


def test_keys_make_no_paths(osum, tmp_path):
    segments = [dict(SEGMENTS[0], sid="../../../evil/S1"), SEGMENTS[0]]
    root = lay_out(tmp_path / "corpus", {LONG: SOUND, "WenetSpeech.json": wenetspeech(segments)})
    soundfile.write(root / LONG, noise(3, RATE), RATE)
    assert osum("wenetspeech", {}, "--split", "TEST_NET", "--cut")[0] == 0
    assert lines(tmp_path / "out", "wenetspeech-TEST_NET-asr") == {"Y0_S1": "一二"}
    assert left_out(tmp_path / "out", "wenetspeech-TEST_NET-asr") == {"key that is no file name": 1}
    assert not list(tmp_path.rglob("evil"))


def test_unreadable_recording_is_a_problem(osum, tmp_path):
    files = {LONG: b"not audio", "WenetSpeech.json": wenetspeech(SEGMENTS[:1])}
    status, _, error = osum("wenetspeech", files, "--split", "TEST_NET", "--cut")
    assert status == 1 and "1 recording cannot be read (first: " in error


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
def test_array_is_read_whatever_the_chunks(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    elements = [{"a": "]}", "b": [1, {"c": '\\"'}]}, 17, "x", []]
    lay_out(tmp_path, {"a.json": json.dumps({"meta": {"n": 1}, "audios": elements, "after": [1]}, indent=1)})
    read = list(json_files.array_elements(tmp_path / "a.json", "audios"))
    assert [element for _, element in read] == elements
    assert read[0][0] == f"{tmp_path}/a.json:6"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"audios": [{"aid": "Y0", ', ":1: damaged or truncated JSON"),
        ('{"audios": [{"a": 1}\n, {"a": 2}', ":2: damaged or truncated JSON"),
        ('{"audios": [\n{"a": 1, oops}]}', ":2: damaged or truncated JSON"),
        ('{"data": []}', "no array 'audios' in it"),
        ('{"audios": [' + "[" * 100_000, ":1: damaged or truncated JSON"),
    ],
)
def test_damaged_json_is_refused(text, message, osum, tmp_path):
    status, _, error = osum("wenetspeech", {"WenetSpeech.json": text})
    assert status == 1 and message in error and error.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
