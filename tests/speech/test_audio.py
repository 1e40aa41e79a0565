"""Decoding: every kind of source and format, the resampler, and every way in which a recording can be bad."""

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import (
    SAMPLE_RATE,
    audio_blocks,
    channel_count,
    duration_seconds,
    load_audio,
    load_native,
)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)


def encode(x, rate=SAMPLE_RATE, **kind) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, x, rate, **{"format": "WAV", **kind})
    return stream.getvalue()


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    "kind, tolerance",
    [
        ({"subtype": "PCM_U8"}, 2**-7),
        ({"subtype": "PCM_16"}, 2**-15),
        ({"subtype": "PCM_24"}, 2**-23),
        ({"subtype": "PCM_32"}, 2**-23),
        ({"subtype": "FLOAT"}, 0),
        ({"subtype": "DOUBLE"}, 0),
        ({"format": "FLAC", "subtype": "PCM_16"}, 2**-15),
        ({"format": "FLAC", "subtype": "PCM_24"}, 2**-23),
        ({"format": "AIFF", "subtype": "PCM_16"}, 2**-15),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.05),
    ],
)
def test_formats_give_back_what_was_written(kind, tolerance):
    x = tone(440, SAMPLE_RATE)
    wave_N = load_audio(encode(x, **kind))
    assert wave_N.dtype == np.float32 and wave_N.shape == x.shape
    assert np.abs(wave_N - x).max() <= tolerance


def test_int16_is_exact():
    x = np.array([-32768, -1, 0, 1, 32767], np.int16)
    assert load_audio(encode(x)).tolist() == (x / 32768).tolist()


def test_every_source_gives_the_same(tmp_path):
    x_SC = noise(1000, 2)
    data = encode(x_SC, subtype="FLOAT")
    path = tmp_path / "语音 one.wav"
    path.write_bytes(data)
    expected = x_SC.mean(axis=1)
    with open(path, "rb") as file:
        file.read(100)  # a file object is read from its start
        for source in (str(path), path, data, memoryview(data), io.BytesIO(data), file, (x_SC, SAMPLE_RATE)):
            np.testing.assert_array_equal(load_audio(source), expected)
        assert not file.closed


def test_many_channels_across_blocks():
    x_SC = noise(50_000, 8)  # 400 000 values: more than one block
    expected = x_SC.mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(load_audio(encode(x_SC, subtype="FLOAT")), expected, rtol=0, atol=5e-8)


def test_float_beyond_full_scale_is_left_as_it_is():
    x = np.array([3.0, -7.5, 0.25], np.float32)
    assert load_audio(encode(x, subtype="FLOAT")).tolist() == x.tolist()


def test_channels():
    left, right = noise(300_000), noise(300_000, seed=1)
    for source in ((x_SC := np.hstack([left, right]), SAMPLE_RATE), encode(x_SC, subtype="FLOAT")):
        assert channel_count(source) == 2
        for n, x in enumerate((left, right)):
            np.testing.assert_array_equal(load_audio(source, channel=n), x[:, 0])
            np.testing.assert_array_equal(np.concatenate(list(audio_blocks(source, channel=n))), x[:, 0])
        refused(source, "no channel 3 in it, it has 2", channel=2)


def test_opposite_phase_is_heard_and_said():
    x, notes = noise(300_000), []
    opposite = np.hstack([x, -x]), SAMPLE_RATE
    np.testing.assert_array_equal(load_audio(opposite, notes=notes), x[:, 0])
    assert len(notes) == 1 and "opposite phase" in notes[0] and "choose a channel" in notes[0]
    for fine in (
        [x, x],
        [x, 0 * x],
        [x, noise(300_000, seed=1)],
        [0 * x, 0 * x],
        [x, 0.5 * x],
        [x, -0.5 * x],
    ):
        load_audio((np.hstack(fine), SAMPLE_RATE), notes=notes)
        load_audio(opposite, channel=1, notes=notes)
    assert len(notes) == 1
    list(audio_blocks(opposite, notes=notes))
    assert len(notes) == 2


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.array([-32768, 16384], np.int16), [-1, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([[0, 16384]] * 2, np.int16), [0.25, 0.25]),
        (np.array([2.0, -3.0]), [2, -3]),
    ],
)
def test_arrays_are_scaled_by_their_type(array, expected):
    before = array.copy()
    wave_N = load_audio((array, SAMPLE_RATE))
    assert wave_N.dtype == np.float32 and wave_N.tolist() == expected
    wave_N[:] = 9
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampled_tone_is_the_tone_at_16_khz(rate):
    wave_N = load_audio((tone(1000, rate, 1.0), rate))
    assert wave_N.dtype == np.float32 and len(wave_N) == SAMPLE_RATE
    inner = slice(400, -400)  # the filter rings at the ends, where the tone starts and stops
    assert np.abs(wave_N - tone(1000, SAMPLE_RATE))[inner].max() < 1e-4


def test_resampler_removes_what_would_alias():
    wave_N = load_audio((tone(10_000, 44_100), 44_100))  # would fold to 6 kHz
    assert np.abs(wave_N[400:-400]).max() < 0.5e-5  # 100 dB below the tone


@pytest.mark.parametrize("samples, rate", [(1, 44_100), (1, 48_000), (2, 8_000), (441, 44_100), (77, 22_050)])
def test_resampled_length(samples, rate):
    assert len(load_audio((noise(samples), rate))) == -(-samples * SAMPLE_RATE // rate)


def test_resampled_file_equals_librosa():
    librosa = pytest.importorskip("librosa")
    x_SC = noise(30_000, 2)
    expected = librosa.resample(x_SC.mean(axis=1), orig_sr=44_100, target_sr=SAMPLE_RATE, res_type="soxr_hq")
    np.testing.assert_array_equal(load_audio(encode(x_SC, 44_100, subtype="FLOAT")), expected)


def test_duration_comes_from_the_header(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(22_050, 2), 44_100)
    assert duration_seconds(path) == duration_seconds(path.read_bytes()) == 0.5


@pytest.mark.parametrize("unknown", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x80000000, 0x7FFFF000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_from_a_pipe_declares_no_length(unknown, subtype):
    x = noise(1000, 2)
    expected, data = load_audio(encode(x, subtype=subtype)), bytearray(encode(x, subtype=subtype))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = unknown.to_bytes(4, "little")
    np.testing.assert_allclose(load_audio(bytes(data)), expected, rtol=0, atol=1e-9)
    assert duration_seconds(bytes(data)) == pytest.approx(1000 / SAMPLE_RATE)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 3)])
def test_at_its_own_rate(tmp_path, rate, channels):
    x_SC = np.random.default_rng(4).uniform(-0.5, 0.5, (70_001, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", x_SC, rate, subtype="FLOAT")
    wave_S, own = load_native(tmp_path / "a.wav")
    assert own == rate and wave_S.dtype == np.float32
    np.testing.assert_allclose(wave_S, x_SC.mean(1), atol=1e-7)
    if rate == SAMPLE_RATE:
        np.testing.assert_array_equal(wave_S, load_audio(tmp_path / "a.wav"))
    with pytest.raises(UserError, match="the limit is 1 s"):
        load_native(tmp_path / "a.wav", max_seconds=1)


def test_golden_recording_is_taken_exactly(shared):
    path = shared / "golden" / "wav1.wav"
    expected, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    np.testing.assert_array_equal(load_audio(path), expected)


def test_heavy_modules_are_imported_only_when_needed():
    code = (
        "import sys, mindspore_osum.speech.audio as a, mindspore_osum.speech.features\n"
        "assert not {'librosa', 'soundfile', 'torch', 'mindspore'} & set(sys.modules)\n"
        "import io, soundfile; f = io.BytesIO(); soundfile.write(f, [0.0], 16000, format='WAV')\n"
        "a.load_audio(f)\n"
        "assert 'librosa' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# ---- memory --------------------------------------------------------------------------------


def test_too_long_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "long.wav"
    seconds = 4 * 3600
    header = bytearray(encode(np.zeros(1, np.int16))[:44])
    header[4:8] = (seconds * 32_000 + 36).to_bytes(4, "little")
    header[40:44] = (seconds * 32_000).to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, 44 + seconds * 32_000)  # a sparse file
    assert duration_seconds(path) == seconds
    tracemalloc.start()
    refused(path, "14400.00 s", "10800", "max_seconds")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_too_many_samples_at_a_high_rate_are_refused(tmp_path):
    path = tmp_path / "dense.wav"
    size = 2 * (2**29 + 1)
    header = bytearray(encode(np.zeros(1, np.int16), 384_000)[:44])
    header[40:44] = size.to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, 44 + size)
    refused(path, "536870913 samples at 384000 Hz", "resample")


def test_decoding_takes_little_more_than_the_result(tmp_path):
    path = tmp_path / "eight.wav"
    soundfile.write(path, np.zeros((960_000, 8), np.int16), SAMPLE_RATE)
    tracemalloc.start()
    wave_N = load_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < wave_N.nbytes + 4 * 2**20 < 960_000 * 8 * 4


def test_a_high_rate_takes_no_more():
    """2 MB of flac at 384 kHz took 2.4 GB: the samples were resampled when all were there."""
    x_S = np.zeros(6_000_000, np.int16)
    tracemalloc.start()
    wave_N = load_audio((x_S, 384_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(wave_N) == 250_000 and peak < 8 * 2**20 < 4 * len(x_S)


# ---- errors --------------------------------------------------------------------------------


def refused(source, *words, **options):
    with pytest.raises(UserError) as caught:
        load_audio(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(source),) * isinstance(source, os.PathLike) + words:
        assert word in message, message


@pytest.fixture
def recording(tmp_path):
    """Write bytes to a file and give its path."""

    def write(data: bytes, name: str = "speech.wav"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_paths_that_are_no_file(tmp_path):
    refused(tmp_path / "none.wav", "no such")
    refused(tmp_path, "directory")
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "pipe")
    refused("a\0b.wav", "cannot open", "null byte")
    refused(str(tmp_path / ("x" * 300)), "cannot open", "too long")


def test_not_audio(recording):
    refused(recording(b""), "empty (0 bytes)")
    refused(recording(b"dear diary, " * 100), "not audio")
    refused(recording(b"\0" * 5000, "zeros.mp3"), "not audio")
    refused(recording(b"\0" * 5000, "samples.raw"), "rate")
    refused(b"OggS", "audio bytes", "not audio")


def test_header_without_samples(recording):
    path = recording(encode(np.zeros(0)))
    refused(path, "0 samples")
    with pytest.raises(UserError, match="0 samples"):
        duration_seconds(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(recording, bad):
    x_SC = noise(300_000, 2)  # the bad one is in the second block
    x_SC[240_000, 1] = bad
    refused(recording(encode(x_SC, subtype="FLOAT")), "NaN or infinite", "15.0000 s")
    refused((x_SC, SAMPLE_RATE), "NaN or infinite", "15.0000 s")
    refused((np.array([0.0, 1e300]), SAMPLE_RATE), "NaN or infinite")


@pytest.mark.parametrize("rate", [0, 1, 500_000, 2**32 - 1])
def test_absurd_rate_in_a_header(recording, rate):
    data = bytearray(encode(noise(100)))
    data[24:28] = rate.to_bytes(4, "little")
    path = recording(bytes(data))
    refused(path, *(["sample rate", str(rate)] if 0 < rate < 2**31 else ["not audio"]))
    with pytest.raises(UserError):
        duration_seconds(path)


@pytest.mark.parametrize("rate", [0, -16_000, 999, 1e9, float("nan"), float("inf"), "16000", None, True])
def test_absurd_rate_of_an_array(rate):
    refused((noise(100), rate), "sample rate", repr(rate))


def test_longer_than_allowed(recording):
    data = encode(noise(16_001))
    refused(recording(data), "1.00 s", "max_seconds", max_seconds=1.0)
    refused((noise(16_001), SAMPLE_RATE), "max_seconds", max_seconds=1.0)
    assert len(load_audio(data, max_seconds=1.001)) == 16_001


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG"])
@pytest.mark.parametrize("kept", [0.6, 0.98])
def test_cut_off_files_are_refused_not_shortened(recording, kind, kept):
    data = encode(noise(64_000), format=kind)
    assert len(load_audio(data)) == 64_000
    path = recording(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match="incomplete|damaged") as caught:
        load_audio(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_flac_without_a_length_is_read_to_its_end(recording):
    x = noise(1000)
    data = bytearray(encode(x, format="FLAC"))
    data[21] &= 0xF0  # the 36 bits of total samples in STREAMINFO
    data[22:26] = bytes(4)
    path = recording(bytes(data), "piped.flac")
    np.testing.assert_array_equal(load_audio(path), load_audio(encode(x, format="FLAC")))
    assert duration_seconds(path) == 1000 / SAMPLE_RATE


def test_flac_that_declares_a_part_is_not_heard_in_part():
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), SAMPLE_RATE, format="FLAC")
    data = bytearray(stream.getvalue())
    assert len(load_audio(bytes(data) + b"TAG" + bytes(125))) == 80_000
    for samples in (1, 20_000):
        data[22:26] = samples.to_bytes(4, "big")
        with pytest.raises(UserError, match="and more follows"):
            load_audio(bytes(data))


def test_files_end_to_end_are_heard_whole_or_refused(recording):
    ogg, flac, wav = (encode(noise(16_000), format=kind) for kind in ("OGG", "FLAC", "WAV"))
    chained = ogg + encode(noise(8_000), format="OGG")
    assert len(load_audio(chained)) == pytest.approx(24_000, abs=1000)
    assert duration_seconds(chained) == pytest.approx(1.5, abs=0.1)
    refused(recording(ogg * 2, "two.ogg"), "another file follows after 1.00 s")
    refused(recording(flac * 2, "two.flac"), "another file follows after 1.00 s")
    refused(recording(wav * 2, "two.wav"), "not audio")


def test_file_objects_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encode(noise(10)))
    with open(path) as text:
        refused(text, str(path), "'rb'")
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        refused(pipe, "cannot seek")


@pytest.mark.parametrize(
    "source, word",
    [
        (None, "NoneType"),
        (5, "int"),
        (np.zeros(10), "(array, rate)"),
        ((np.zeros(10),), "tuple of 1"),
        ((np.zeros((2, 16_000)), SAMPLE_RATE), "more channels than samples"),
        ((np.zeros((4, 2, 2)), SAMPLE_RATE), "shape"),
        ((np.float32(1), SAMPLE_RATE), "(array, rate)"),
        ((np.zeros(0), SAMPLE_RATE), "0 samples"),
        ((np.zeros((5, 0)), SAMPLE_RATE), "shape"),
        ((np.zeros(4, np.int64), SAMPLE_RATE), "type"),
        ((np.zeros(4, complex), SAMPLE_RATE), "type"),
        ((["a", "b"], SAMPLE_RATE), "type"),
    ],
)
def test_what_is_no_source(source, word):
    refused(source, word)
