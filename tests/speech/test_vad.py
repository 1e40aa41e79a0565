"""Voice activity: voices are found, noise is not, and the pieces they come in do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.vad import Span, VadSettings, VoiceActivity, speech_spans
from tests.speech.voices import noise, recordings_in_a_row, row, voice


def seconds(spans: list[Span]) -> list[tuple[float, float]]:
    return [(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in spans]


@pytest.mark.parametrize("level", [0.3, 0.01, 0.001])
def test_voices_between_pauses(level):
    """Loud and soft: every stretch is found, from its beginning to its end, and not much more."""
    wave_N, places = row([1.0, voice(2.0, level), 0.8, voice(0.5, level), 2.0, voice(1.0, level), 0.5])
    found = seconds(speech_spans(wave_N))
    assert len(found) == len(places)
    for (start, end), (first, last) in zip(found, places, strict=True):
        assert first - 0.25 <= start <= first + 0.05 and last - 0.05 <= end <= last + 0.25


@pytest.mark.parametrize("snr", [30, 20, 10])
def test_real_voices_in_noise(snr):
    """Recordings of 12 voices: hardly any of their sound is missed, and the pauses are seen."""
    wave_N, places = recordings_in_a_row()
    wave_N = wave_N + noise(len(wave_N) / SAMPLE_RATE, 0.05 * 10 ** (-snr / 20))
    found, spoken = (np.zeros(len(wave_N), bool) for _ in range(2))
    for start, end in speech_spans(wave_N):
        found[start:end] = True
    for start, end in places:
        spoken[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
    assert (spoken & ~found).sum() < 0.03 * spoken.sum()
    assert (found & ~spoken).sum() < 0.25 * (~spoken).sum()


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-2, 0.3])
def test_noise_is_no_speech(level):
    assert speech_spans(noise(20.0, level)) == []


def test_noise_that_grows_louder_is_forgotten():
    """A fan is switched on: soon after, it is background, and a voice above it is heard."""
    wave_N, _ = row([noise(10.0, 0.001), noise(20.0, 0.02)])
    wave_N[25 * SAMPLE_RATE : 27 * SAMPLE_RATE] += voice(2.0, 0.2)
    found = seconds(speech_spans(wave_N))
    assert not [s for s in found if s[1] > 18 and s[0] < 24]
    assert 24.5 < found[-1][0] < 25.1 and 26.9 < found[-1][1] < 27.5


def test_speech_from_the_first_sample_and_to_the_last():
    wave_N = voice(3.0, 0.2)
    ((start, end),) = seconds(speech_spans(wave_N))
    assert start == 0 and end == 3.0


def test_clicks_are_dropped_and_short_pauses_are_not():
    wave_N, _ = row([1.0, voice(0.04, 0.5), 1.0, voice(0.6), 0.15, voice(0.6), 1.0])
    assert len(speech_spans(wave_N)) == 1


def test_long_speech_is_cut_where_it_is_quiet():
    """70 s without a pause, but with a soft moment every 4 s."""
    wave_N = voice(70.0)
    soft = np.arange(4 * SAMPLE_RATE, len(wave_N), 4 * SAMPLE_RATE)
    for start in soft:
        wave_N[start : start + SAMPLE_RATE // 20] *= 0.01
    spans = speech_spans(wave_N, VadSettings(max_speech=20.0))
    assert spans[0].start == 0 and spans[-1].end == len(wave_N)
    for left, right in zip(spans, spans[1:], strict=False):
        assert left.end <= right.start < left.end + 0.2 * SAMPLE_RATE
        assert np.abs(soft - left.end).min() < 0.1 * SAMPLE_RATE
    assert all(10 <= (s.end - s.start) / SAMPLE_RATE <= 20 for s in spans[:-1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=20), st.integers(0, 1000))
def test_pieces_do_not_matter(sizes, seed):
    wave_N, _ = row([0.7, voice(1.5, 0.05), 1.1, voice(14.0, 0.1), 0.4, voice(0.3), 1.3])
    wave_N = wave_N + noise(len(wave_N) / SAMPLE_RATE, 0.002, seed)
    limits = VadSettings(max_speech=5.0)
    vad, found, start, turn = VoiceActivity(limits), [], 0, 0
    while start < len(wave_N):
        size = sizes[turn % len(sizes)] if turn < 20_000 else 1000  # 1.2 s at least, sample by sample
        settled = vad.settled
        spans = vad.push(wave_N[start : start + size])
        assert all(span.start >= settled for span in spans)
        found += spans
        start += size
        turn += 1
    found += vad.flush()
    assert found == speech_spans(wave_N, limits)
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))
    assert all(0 <= s.start < s.end <= len(wave_N) for s in found)


def test_what_is_kept_is_bounded():
    """Two minutes by the second, far beyond what the noise floor looks back, give the spans of the whole."""
    wave_N, _ = row([1.0, voice(2.0, 0.05), 4.0, voice(5.0, 0.1), 3.0] * 8)
    wave_N = wave_N + noise(len(wave_N) / SAMPLE_RATE, 0.002)
    vad, found, most = VoiceActivity(), [], 0
    for start in range(0, len(wave_N), SAMPLE_RATE):
        found += vad.push(wave_N[start : start + SAMPLE_RATE])
        most = max(most, *(len(kept) for kept in vars(vad).values() if isinstance(kept, list)))
    assert most <= 20  # blocks of half a second: 6 s back, 1 s ahead, and what was new
    assert found + vad.flush() == speech_spans(wave_N)


def test_nothing_and_almost_nothing():
    for samples in (0, 1, 319, 321):
        assert speech_spans(np.zeros(samples, np.float32)) == []


@pytest.mark.parametrize("wrong", [{"pad": 0.2}, {"pad": -0.1}, {"max_speech": 0.5}])
def test_settings_are_checked(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        VadSettings(**wrong)
