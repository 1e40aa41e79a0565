"""Long recordings: chunks no longer than asked for, at pauses, in bounded memory, and true to the sample."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, audio_blocks, duration_seconds, load_audio
from mindspore_osum.speech.long import TOGETHER_SECONDS, chunks, chunks_of
from mindspore_osum.speech.vad import VadSettings, is_steady, speech_spans
from tests.speech.voices import RECORDINGS, noise, recordings_in_a_row, row, voice


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """36 s: twelve recordings with pauses between them."""
    return recordings_in_a_row()[0]


def write_long(path, minutes: float) -> list[tuple[float, float]]:
    """A recording written a minute at a time; returns where it speaks, in seconds."""
    parts = [2.0, voice(7.0), 0.5, voice(11.0), 4.0, voice(20.0, pitch=200.0), 0.4, voice(9.0)]
    wave_N, found = row(parts)
    wave_N = np.pad(wave_N, (0, 60 * SAMPLE_RATE - len(wave_N)))
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        for minute in range(round(minutes)):
            file.write(wave_N + noise(60.0, 1e-4, seed=minute))
    return [(60 * n + start, 60 * n + end) for n in range(round(minutes)) for start, end in found]


def check_long(path, minutes: float) -> None:
    """All that is said is in some chunk, none is too long, and memory is far below the recording's size."""
    places = write_long(path, minutes)
    tracemalloc.start()
    spans, now = [], 0.0
    for chunk in chunks(path, 20.0):
        assert chunk.start >= now - 1e-9 and len(chunk.wave_N) <= 20 * SAMPLE_RATE
        now = chunk.end
        spans.append((chunk.start, now))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6, f"{peak / 1e6:.0f} MB"
    for start, end in places:
        heard = sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
        assert heard > 0.98 * (end - start)
    assert sum(last - first for first, last in spans) < 50 * minutes


def test_three_minutes(tmp_path):
    check_long(tmp_path / "long.wav", 3)


@pytest.mark.slow
def test_two_hours(tmp_path):
    """As float32 it would be 461 MB."""
    check_long(tmp_path / "long.wav", 120)


@pytest.mark.parametrize("path", RECORDINGS[:3], ids=lambda path: path.name)
def test_a_short_recording_is_one_chunk(path):
    for source in (path, path.read_bytes(), soundfile.read(path, dtype="float32")):
        (chunk,) = chunks(source)
        assert chunk.start == 0 and np.array_equal(chunk.wave_N, load_audio(path))
    (silence,) = chunks((np.zeros(SAMPLE_RATE), SAMPLE_RATE), 1.0)
    assert len(silence.wave_N) == SAMPLE_RATE
    (gated,) = chunks(path, gate=True)
    assert np.array_equal(gated.wave_N, load_audio(path))


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_the_gate_lets_through_what_is_quiet_and_what_is_no_voice(level):
    cough, rng = np.zeros(32_000, np.float32), np.random.default_rng(0)
    cough[8000:11_000] = 0.1 * rng.standard_normal(3000) * np.exp(-np.arange(3000) / 800)
    for wave_N in (cough, voice(0.4), *map(load_audio, RECORDINGS)):
        assert len(list(chunks((level * wave_N, SAMPLE_RATE), gate=True))) == 1


@pytest.mark.parametrize("seconds", [0.5, 3.0, 20.0])
def test_the_gate_holds_back_silence_and_steady_noise(seconds):
    dither = np.random.default_rng(0).integers(-1, 2, round(seconds * SAMPLE_RATE)).astype(np.int16)
    for wave_N in (dither, *(noise(seconds, level) for level in (0.0, 1e-4, 0.01, 0.3))):
        assert not list(chunks((wave_N, SAMPLE_RATE), gate=True))


@pytest.mark.parametrize("seconds", [0.5, 5.0, 25.0])
@pytest.mark.parametrize("level", [0.001, 0.1, 0.5])
def test_the_gate_holds_back_sound_that_does_not_change(seconds, level):
    """Tones, hum of the mains, noise of any colour, also over faint noise of the recording."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * hertz * t + 1) for hertz in (100, 440, 1000, 4000)]
    hum = sum(np.sin(2 * np.pi * 50 * k * t + k) / (2 * k) for k in range(1, 13))
    dial = (np.sin(2 * np.pi * 350 * t) + np.sin(2 * np.pi * 440 * t)) / 2
    hertz = np.maximum(np.fft.rfftfreq(len(t), 1 / SAMPLE_RATE), 20)
    white = np.fft.rfft(noise(seconds, 1.0))
    colours = [np.fft.irfft(white / hertz**power, len(t)) for power in (0, 0.5, 1)]
    for wave_N in (*tones, hum, dial, *(x / np.abs(x).max() for x in colours)):
        for faint in (0.0, 3e-4):
            heard = (level * wave_N + noise(seconds, faint, seed=1)).astype(np.float32)
            assert not list(chunks((heard, SAMPLE_RATE), gate=True))


def test_the_gate_lets_through_voices_in_noise_as_loud_as_they_are():
    for n, path in enumerate(RECORDINGS):
        wave_N = load_audio(path)
        for level in (wave_N.std(), 0.3 * wave_N.std()):
            heard = wave_N + noise(len(wave_N) / SAMPLE_RATE, level, seed=n)
            assert len(list(chunks((heard, SAMPLE_RATE), gate=True))) == 1
        half = SAMPLE_RATE // 2  # any half second of speech is asked about as before
        assert not any(is_steady(wave_N[i : i + half]) for i in range(0, len(wave_N) - half, half // 2))


@pytest.mark.parametrize("most", [3.0, 6.0, 30.0])
def test_chunks_hold_all_speech_to_the_sample(talk, most):
    found = list(chunks((talk, SAMPLE_RATE), most))
    for chunk in found:
        start = round(chunk.start * SAMPLE_RATE)
        assert np.array_equal(chunk.wave_N, talk[start : start + len(chunk.wave_N)])
        assert len(chunk.wave_N) <= most * SAMPLE_RATE
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))
    covered = np.zeros(len(talk), bool)
    for chunk in found:
        covered[round(chunk.start * SAMPLE_RATE) :][: len(chunk.wave_N)] = True
    for span in speech_spans(talk, VadSettings(max_speech=most)):
        assert covered[span.start : span.end].all()
    assert len(found) >= 36 / most


def test_long_pauses_divide_and_short_ones_do_not():
    wave_N, places = row([0.5, voice(2.0), 0.6, voice(2.0), TOGETHER_SECONDS + 0.6, voice(2.0), 30.0])
    first, second = chunks((wave_N, SAMPLE_RATE))
    assert first.start < places[0][0] and places[1][1] < first.end
    assert second.start < places[2][0] and places[2][1] < second.end < places[2][1] + 0.3


def test_cut_at_the_longest_pause_of_the_second_half():
    parts = [0.5, voice(3.0), 0.9, voice(3.0), 0.5, voice(2.0), 0.8, voice(2.0), 0.5, voice(4.0), 20.0]
    wave_N, places = row(parts)
    first, second = chunks((wave_N, SAMPLE_RATE), 14.0)
    assert places[2][1] < first.end < second.start < places[3][0]


def test_a_silent_long_recording_has_no_chunks():
    assert list(chunks((noise(40.0, 1e-3), SAMPLE_RATE))) == []


def test_pieces_do_not_matter(talk):
    whole = list(chunks_of([talk], 5.0))
    for size in (317, 16_000, 100_000):
        parts = list(chunks_of((talk[i : i + size] for i in range(0, len(talk), size)), 5.0))
        assert [(c.start, c.end) for c in parts] == [(c.start, c.end) for c in whole]
        assert all(np.array_equal(a.wave_N, b.wave_N) for a, b in zip(parts, whole, strict=True))


def test_a_chunk_comes_when_its_pause_is_over(talk):
    """A stream gives its chunks while it goes on."""
    taken = []

    def pieces():
        for start in range(0, len(talk), 8000):
            taken.append(start + 8000)
            yield talk[start : start + 8000]

    chunks = chunks_of(pieces(), 5.0)
    first, known = next(chunks), taken[-1] / SAMPLE_RATE
    second = next(chunks)
    # what follows soon might still belong to it, so the latest is when that has ended
    assert first.end < second.start and known < second.end + TOGETHER_SECONDS + 2 < len(talk) / SAMPLE_RATE


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_other_rates(talk, tmp_path, rate):
    """Read in pieces, resampled in pieces: the same moments, and nearly the same samples."""
    import librosa

    path = tmp_path / "talk.flac"
    soundfile.write(path, librosa.resample(talk, orig_sr=SAMPLE_RATE, target_sr=rate), rate)
    whole, pieces = load_audio(path), np.concatenate(list(audio_blocks(path)))
    assert abs(len(whole) - len(pieces)) <= 1
    same = min(len(whole), len(pieces))
    np.testing.assert_allclose(pieces[:same], whole[:same], atol=0 if rate == SAMPLE_RATE else 1e-4)
    here, there = list(chunks(path, 6.0)), list(chunks((talk, SAMPLE_RATE), 6.0))
    assert [c.start for c in here] == pytest.approx([c.start for c in there], abs=0.05)


def test_arrays_come_in_blocks(talk):
    stereo_SC = np.round(np.stack([talk, talk], axis=1) * 32767).astype(np.int16)
    assert np.array_equal(
        np.concatenate(list(audio_blocks((stereo_SC, SAMPLE_RATE)))), load_audio((stereo_SC, SAMPLE_RATE))
    )
    assert duration_seconds((stereo_SC, 8000)) == len(talk) / 8000


def test_damage_is_said_when_it_is_reached(talk, tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, talk, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:-16_000])
    found = []
    with pytest.raises(UserError, match="incomplete"):
        for chunk in chunks(path, 5.0):
            found.append(chunk)
    assert len(found) > 2


@pytest.mark.parametrize("wrong", [0, 0.5, 61])
def test_impossible_limits(wrong):
    with pytest.raises(UserError, match="max_seconds"):
        next(chunks(RECORDINGS[0], wrong))
