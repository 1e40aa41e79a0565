"""`osum data noise`: the ratio of what was written, against its definition on the samples."""

import json
import os

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.pipeline.making import BEGUN, MANIFEST, file_name
from tests.data.formats.tars import RATE, sample, sound, write_tar
from tests.data.pipeline.conftest import noise_like

LINES = [
    {
        "key": f"u{n}",
        "wav": f"u{n}.wav",
        "txt": f"hi<{g}>",
        "task": "<TRANSCRIBE> <GENDER>",
        "extra": {"n": n},
    }
    for n, g in enumerate(("MALE", "FEMALE", "MALE"))
]


@pytest.fixture
def noises(tmp_path):
    """A list of two recordings of noise, at other rates and shorter than what they are added to."""
    soundfile.write(tmp_path / "hum.wav", noise_like(0.4, 22050, 7), 22050, subtype="PCM_16")
    soundfile.write(tmp_path / "hiss.flac", noise_like(0.31, 48000, 8), 48000)
    (tmp_path / "noise.list").write_text("hum.wav\nhiss.flac\n")
    return tmp_path / "noise.list"


def parts(tmp_path, utt, clean):
    """The clean waveform as it is in a copy, and what was added: least squares of one in the other."""
    mixed, _ = soundfile.read(utt.wav)
    x, _ = soundfile.read(tmp_path / clean, always_2d=True)
    x = x.mean(1)
    assert len(x) == len(mixed)
    gain = 1.0 if np.abs(mixed).max() < 0.999 else (mixed @ x) / (x @ x)
    return gain * x, mixed - gain * x


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 1)])
def test_ratios_are_those_asked_for_at_the_recordings_rate(tmp_path, write_set, data, noises, rate, channels):
    path = write_set("set.jsonl", LINES, rate, channels)
    status, out, err = data(
        "noise", path, "--noise", noises, "--snr", -3, 7.5, 30, "--output", tmp_path / "o"
    )
    assert status == 0, err
    found, problems = read_manifest(tmp_path / "o" / MANIFEST)
    assert not problems and "9 utterances, 0 errors" in out
    assert [u.key for u in found] == [f"u{n}-snr{s}" for n in range(3) for s in ("-3", "7.5", "30")]
    for utt in found:
        assert soundfile.info(utt.wav).samplerate == rate and soundfile.info(utt.wav).channels == 1
        n, about = utt.extra["n"], utt.extra["noise"]
        assert (utt.txt, utt.task) == (LINES[n]["txt"], LINES[n]["task"])
        assert about["file"] in ("hum.wav", "hiss.flac")
        clean, added = parts(tmp_path, utt, f"u{n}.wav")
        measured = 10 * np.log10(np.mean(clean**2) / np.mean(added**2))
        assert measured == pytest.approx(about["snr_db"], abs=0.05), utt.key
    assert len({u.extra["noise"]["start"] for u in found}) > 5


def test_a_loud_mix_is_scaled_as_a_whole(tmp_path, write_set, data):
    """Fitted by least squares, what was written is the two of them in the ratio, and nothing else."""
    x, noise = np.clip(noise_like(1, 16000, 3, 0.6), -1, 1), noise_like(0.3, 16000, 9)
    for name, wave in (("u0", x), ("noise", noise)):
        soundfile.write(tmp_path / f"{name}.wav", wave, 16000, subtype="FLOAT")
    (tmp_path / "noise.list").write_text("noise.wav\n")
    path = write_set("set.jsonl", LINES[:1])
    command = ["noise", path, "--noise", tmp_path / "noise.list", "--snr", -10, "--output", tmp_path / "o"]
    assert data(*command)[0] == 0
    (utt,), _ = read_manifest(tmp_path / "o" / MANIFEST)
    mixed, _ = soundfile.read(utt.wav)
    assert 0.999 < np.abs(mixed).max() < 1
    start = round(utt.extra["noise"]["start"] * 16000)
    z = np.take(noise, np.arange(start, start + len(x)), mode="wrap")
    (a, b), *_ = np.linalg.lstsq(np.stack([x, z], 1), mixed, rcond=None)
    assert 10 * np.log10(np.mean((a * x) ** 2) / np.mean((b * z) ** 2)) == pytest.approx(-10, abs=0.01)
    assert np.abs(mixed - a * x - b * z).max() < 2**-14  # 16 bit


def test_the_seed_and_the_key_decide_and_nothing_else(tmp_path, write_set, data, noises):
    made = {}
    for name, lines, seed in (("a", LINES, 1), ("b", LINES[::-1], 1), ("c", LINES, 2)):
        path = write_set(f"{name}.jsonl", lines)
        args = ["--noise", noises, "--snr", 5, "--seed", seed, "--output", tmp_path / f"out_{name}"]
        assert data("noise", path, *args)[0] == 0
        made[name] = {p.name: p.read_bytes() for p in (tmp_path / f"out_{name}" / "wav").iterdir()}
    assert made["a"] == made["b"] and made["a"].keys() == made["c"].keys()
    assert all(made["a"][name] != made["c"][name] for name in made["a"])


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path, write_set, data, noises):
    path = write_set("set.jsonl", LINES)
    good = (tmp_path / "u1.wav").read_bytes()
    (tmp_path / "u1.wav").write_bytes(good[:100])
    command = ["noise", path, "--noise", noises, "--snr", 0, 5, "--output", tmp_path / "o"]
    status, _, err = data(*command)
    assert status == 1 and f"{path}:2: {tmp_path}/u1.wav" in err and err.count("\n") == 1
    assert not (tmp_path / "o" / MANIFEST).exists() and len([*(tmp_path / "o/wav").iterdir()]) == 2
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "o/wav").iterdir()}
    status, _, err = data(*command, "--seed", 5)
    assert status == 1 and f"with other settings (seed); give the same ones, or remove {tmp_path}/o" in err
    with open(tmp_path / "o" / BEGUN, "ab") as file:
        file.write(b'{"key": "u1-snr0", "wa')  # the process was ended here
    (tmp_path / "u1.wav").write_bytes(good)
    write_set("set.jsonl", [{**LINES[0], "txt": "ho<MALE>"}, *LINES[1:]])
    status, _, err = data(*command)
    assert status == 1 and f"{path}:1: its line has changed since {tmp_path}/o/{BEGUN} was begun" in err
    write_set("set.jsonl", LINES)
    (tmp_path / "u1.wav").write_bytes(good)
    status, out, err = data(*command)
    assert status == 0 and "6 utterances" in out
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [MANIFEST, "wav"]
    straight = data(*command[:-1], tmp_path / "o2")
    assert straight[0] == 0
    for name in (MANIFEST, *(f"wav/{p.name}" for p in before)):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "o2" / name).read_bytes()
    assert "is there already" in data(*command)[2]


def test_shards_parts_and_strange_keys(tmp_path, data, write_set, noises):
    write_tar(tmp_path / "s.tar", [*sample("a/b", "x"), *sample("名", "y", audio=sound(0.5, 3))])
    lines = [{"key": "part", "wav": "p.wav", "txt": "z", "task": "asr", "start": 0.25, "end": 0.75}]
    lines += [{"key": "w", "wav": None, "txt": "t", "task": "<TEXT2TEXT>", "extra": {"question": "q"}}]
    path = write_set("set.jsonl", lines)
    status, out, _ = data(
        "noise", tmp_path / "s.tar", path, "--noise", noises, "--snr", 5, "--output", tmp_path / "o"
    )
    assert status == 0 and f"left out: {path}:2: words alone, no recording" in out
    found, problems = read_manifest(tmp_path / "o" / MANIFEST)
    assert [u.key for u in found] == ["a/b-snr5", "名-snr5", "part-snr5"] and not problems
    frames = [soundfile.info(u.wav).frames for u in found]
    assert frames == [round(0.3 * RATE), round(0.5 * RATE), round(0.5 * RATE)]
    assert found[2].start is None and found[2].end is None


def test_names_of_files():
    names = [file_name(key) for key in ("a", "a/b", "a b", "..", "名", "x" * 300, "A" * 99 + ".")]
    assert len(set(names)) == len(names) and names[0] == "a.wav"
    assert all(len(n.encode()) < 120 and "/" not in n and not n.startswith(".") for n in names)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--snr", "5", "5"], "--snr 5: is there twice"),
        (["--snr", "0.1", "0.10000001"], "--snr 0.1: is there twice"),  # one key
        (["--snr", "nan"], "--snr nan: must be from -50 to 60 dB"),
        (["--snr", "5", "--noise", "none.list"], "none.list: cannot read it"),
        (["--snr", "5", "--noise", "silence.list"], "silence.wav is silent, so there is no ratio"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(tmp_path, write_set, data, noises, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    soundfile.write("silence.wav", np.zeros(800), 16000)
    (tmp_path / "silence.list").write_text("silence.wav\n")
    path = write_set("set.jsonl", LINES)
    status, out, err = data("noise", path, "--noise", noises, "--output", tmp_path / "o", *options)
    assert status == 1 and says in err and err.count("\n") == 1
    assert not (tmp_path / "o" / MANIFEST).exists()


def test_lines_are_json_with_the_extra_of_their_source(tmp_path, write_set, data, noises):
    path = write_set("set.jsonl", LINES)
    assert data("noise", path, "--noise", noises, "--snr", 5, "--output", tmp_path / "o")[0] == 0
    line = json.loads((tmp_path / "o" / MANIFEST).read_text().splitlines()[0])
    assert line["wav"] == "wav/u0-snr5.wav" and line["extra"]["n"] == 0


def test_a_list_that_is_a_pipe_is_not_waited_for(tmp_path, write_set, data):
    os.mkfifo(tmp_path / "noise.list")
    path = write_set("set.jsonl", LINES[:1])
    asked = ["--noise", tmp_path / "noise.list", "--snr", 5, "--output", tmp_path / "o"]
    status, _, err = data("noise", path, *asked)
    assert status == 1 and "noise.list: not a regular file" in err
