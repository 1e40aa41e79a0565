"""Sound from pipes and growing files."""

import io
import os
import struct
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.streaming.sources import stream_of, waves_of
from tests.speech.voices import voice


def wav(wave_SC, rate=16_000, subtype="PCM_16", format="WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave_SC, rate, subtype=subtype, format=format)
    return file.getvalue()


def joined(waves) -> np.ndarray:
    return np.concatenate([np.empty(0, np.float32), *waves])


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(
    ("subtype", "format"),
    [("PCM_U8", "WAV"), ("PCM_16", "WAV"), ("PCM_32", "WAV"), ("FLOAT", "WAV"), ("DOUBLE", "WAVEX")],
)
def test_pieces_of_any_size_are_the_file(size, subtype, format):
    data = wav(np.stack([voice(0.1), voice(0.1, pitch=200.0)], axis=1), 16_000, subtype, format)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert np.array_equal(joined(waves_of(pieces, "x")), load_audio(data))


@pytest.mark.parametrize("size", [999, 1 << 16])
def test_channels_in_opposite_phase_are_heard_after_a_second(size):
    """The second in which it shows is silent, whatever the pieces; where they agree again, it is the mean."""
    quiet, rate = np.zeros(8000, np.float32), 16_000
    left_N = np.concatenate([quiet, voice(3.5), voice(2.0)])
    right_N = np.concatenate([quiet, -voice(3.5), voice(2.0)])
    data, notes = wav(np.stack([left_N, right_N], axis=1)), []
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    got, expected = joined(waves_of(pieces, "x", None, notes)), left_N.copy()
    expected[:rate] = 0
    assert np.abs(got - expected).max() < 1e-3
    assert len(notes) == 1 and "cancel each other out (opposite phase)" in notes[0]


def test_unrelated_channels_are_no_warning():
    data, notes = wav(np.stack([voice(2.0), voice(2.0, pitch=200.0)], axis=1)), []
    assert len(joined(waves_of([data], "x", None, notes))) == 32_000 and not notes


def test_other_rates_are_resampled():
    data = wav(voice(1.0), 44_100)
    got = joined(waves_of([data[:1000], data[1000:]], "x"))
    expected = load_audio(data)
    assert abs(len(got) - len(expected)) <= 1
    n = min(len(got), len(expected))
    assert np.abs(got[:n] - expected[:n]).max() < 1e-3


def test_raw_samples():
    samples = (voice(0.1) * 32768).astype("<i2").tobytes()
    expected = np.frombuffer(samples, "<i2") / np.float32(32768)
    assert np.array_equal(joined(waves_of([samples[:5], samples[5:]], "x", 16_000)), expected)


def test_lengths_of_the_header_count_for_nothing():
    """A writer to a pipe does not know them."""
    data = wav(voice(0.1))
    at = data.index(b"data") + 4
    for size in (0, 0xFFFFFFFF):
        unknown = data[:4] + struct.pack("<I", size) + data[8:at] + struct.pack("<I", size) + data[at + 4 :]
        assert np.array_equal(joined(waves_of([unknown], "x")), load_audio(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it ended before any sound"),
        (b"RIFF\x00\x00", "it ended before any sound"),
        (b"fLaC" + bytes(100), "not a wav stream; pipe it through `ffmpeg"),
        (b"RIFF0000AVI " + bytes(100), "not a wav stream"),
        (b"RIFF0000WAVEdata" + bytes(100), "samples before their format"),
        (b"RIFF0000WAVEfmt \x02\x00\x00\x00\x01\x00data" + bytes(100), "damaged wav header"),
        (wav(voice(0.1), subtype="PCM_24"), "with 24 bits"),
        (b"RIFF0000WAVEjunk\x00\x00\x00\x10" + bytes(2 << 20), "no sound in the first 1 MiB"),
        (wav(np.array([0, np.nan], np.float32), subtype="FLOAT"), "NaN or infinite sample"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # wav files hold the time they are made
)
def test_what_is_not_pcm_is_one_line(data, message):
    with pytest.raises(UserError) as error:
        joined(waves_of([data[i : i + 1000] for i in range(0, len(data), 1000)], "x"))
    assert str(error.value).startswith("x: ") and message in str(error.value) and "\n" not in str(error.value)


def test_growing_file(tmp_path):
    """Read as it is written; complete when it does not grow any more."""
    path, data = tmp_path / "growing.wav", wav(voice(1.0))
    path.write_bytes(data[:10])
    more = threading.Event()

    def write():
        with open(path, "ab") as file:
            for part in (data[10:9000], data[9000:]):
                file.write(part)
                file.flush()
                more.wait(30)
                more.clear()

    writer = threading.Thread(target=write)
    writer.start()
    stream, got = stream_of(path, idle=1.0), np.empty(0, np.float32)
    while len(got) < (9000 - 44) // 2:
        got = np.concatenate([got, next(stream)])
    assert len(got) == (9000 - 44) // 2  # what has not been written has not been read
    more.set()
    got = np.concatenate([got, joined(stream)])
    more.set()
    writer.join()
    assert np.array_equal(got, load_audio(data))


def test_who_is_slow_to_listen_loses_nothing(tmp_path):
    """The end of a file is that nothing comes, not that nobody asks."""
    path, wave_N = tmp_path / "long.wav", voice(5.0)
    path.write_bytes(wav(wave_N))
    got = []
    for part_N in stream_of(path, idle=0.2):
        got.append(part_N)
        time.sleep(0.3)
    assert len(got) > 2 and len(joined(got)) == len(wave_N)


def test_named_pipe_and_its_end(tmp_path):
    path, data = tmp_path / "fifo", wav(voice(0.5))
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(data))
    writer.start()
    began = time.monotonic()
    assert np.array_equal(joined(stream_of(path, idle=60)), load_audio(data))
    writer.join()
    assert time.monotonic() - began < 30  # not the 60 seconds of a file


def test_absent_file(tmp_path):
    with pytest.raises(UserError, match="absent.wav: no such file; a stream is"):
        stream_of(tmp_path / "absent.wav")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros(9), 44_100), "(array, rate): is no stream; give 'mic', a path"),
        (np.zeros(9), "ndarray: is no stream"),
        (b"RIFF", "bytes: is no stream"),
        (5, "int: is no stream"),
        (io.StringIO("words"), "stream: is open as text; open it with mode 'rb'"),
        ([b"RIFF"], "bytes: a piece of the stream that is no waveform"),
        ([np.zeros(9, np.int16)], "int16 (9,): a piece of the stream that is no waveform"),
        ([np.zeros((9, 2), np.float32)], "float32 (9, 2): a piece of the stream that is no waveform"),
    ],
)
def test_what_is_no_stream_is_one_line(source, message):
    with pytest.raises(UserError) as error:
        list(stream_of(source))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_waveforms_are_a_stream():
    waves = (np.ones(3, np.float32), np.zeros(2, np.float32))
    assert list(map(len, stream_of(waves))) == list(map(len, stream_of(iter(waves)))) == [3, 2]


def test_microphone_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"pip install \"mindspore_osum\[microphone\]\", or pipe the sound"):
        stream_of("mic")
