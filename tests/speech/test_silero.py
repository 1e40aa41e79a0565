"""Silero's network in the place of energy: the same spans in pieces, voices alone, clear refusals."""

import importlib.util
import sys

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.detectors import check_detector, voice_activity
from mindspore_osum.speech.long import chunks
from mindspore_osum.speech.vad import VadSettings, speech_spans
from tests.speech.voices import noise, recordings_in_a_row, row

needs_silero = pytest.mark.skipif(
    importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad (extra: silero)"
)


def spans(pieces) -> list:
    vad = voice_activity("silero", VadSettings())
    return [span for piece in pieces for span in vad.push(piece)] + vad.flush()


@pytest.fixture(scope="module")
def talk():
    """18 s: six recordings with pauses between them, and where they are."""
    wave_N, places = recordings_in_a_row()
    return wave_N[: 18 * SAMPLE_RATE], [place for place in places if place[1] <= 18]


@needs_silero
def test_voices_are_found_and_pieces_do_not_matter(talk):
    wave_N, places = talk
    found, spoken = (np.zeros(len(wave_N), bool) for _ in range(2))
    whole = spans([wave_N])
    for start, end in whole:
        found[start:end] = True
    for start, end in places:
        spoken[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
    assert (spoken & ~found).sum() < 0.15 * spoken.sum()  # vocal events are no voices
    assert (found & ~spoken).sum() < 0.3 * (~spoken).sum()
    rng = np.random.default_rng(0)
    cuts = np.cumsum(rng.integers(1, 6000, 200))
    assert spans(np.split(wave_N, cuts[cuts < len(wave_N)])) == whole


@needs_silero
def test_what_is_kept_is_bounded(talk):
    wave_N, _ = talk
    vad = voice_activity("silero", VadSettings())
    for start in range(0, len(wave_N), SAMPLE_RATE):
        vad.push(wave_N[start : start + SAMPLE_RATE])
    assert len(vad._minima) <= 20 < len(wave_N) // SAMPLE_RATE * 2


@needs_silero
def test_a_sound_that_changes_is_no_voice():
    """A horn that blows every second is a sound for energy; for the network it is none."""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    horn = (0.1 * np.sign(np.sin(2 * np.pi * 440 * t))).astype(np.float32)
    wave_N, _ = row([horn, 0.5] * 10)
    assert speech_spans(wave_N) and not spans([wave_N])


@needs_silero
@pytest.mark.parametrize("count", [0, 1, 320, 511, 512, 1024, 16000])
def test_silence_of_any_length(count):
    assert spans([np.zeros(count, np.float32)]) == []


@needs_silero
def test_a_long_recording_is_cut_where_it_says(talk):
    wave_N, _ = talk
    found = list(chunks((wave_N, SAMPLE_RATE), 5.0, "silero"))
    assert len(found) >= 3 and all(len(chunk.wave_N) <= 5 * SAMPLE_RATE for chunk in found)
    for chunk in found:
        start = round(chunk.start * SAMPLE_RATE)
        assert np.array_equal(chunk.wave_N, wave_N[start : start + len(chunk.wave_N)])
    assert list(chunks((noise(20.0, 1e-3), SAMPLE_RATE), 5.0, "silero")) == []


def test_what_cannot_be_is_one_line(monkeypatch):
    with pytest.raises(UserError, match="vad 'slero': must be energy or silero"):
        check_detector("slero")
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match='is not installed: pip install "mindspore_osum\\[silero'):
        check_detector("silero")
