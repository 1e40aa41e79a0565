"""Augmentation against its definitions, and its place in the loader."""

import json

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.augment import (
    Augment,
    NoiseError,
    SpecAugment,
    WaveAugment,
    change_speed,
    mix,
    spec_augment,
    substitute,
)
from mindspore_osum.data.batches.batching import features
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import FEATURES
from mindspore_osum.training.config import job_from
from tests.training.tones import extractor, make_world, shape

OFF = SpecAugment(0, 1, 0, 1, 0, 1)
WORDS = ["abc", "defgh", "ab", "gh"]


def power(x):
    return np.mean(np.square(x, dtype=np.float64))


def test_spec_augment_is_within_its_limits():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mel = np.ones((40, 80), np.float32)
        spec_augment(mel, rng, SpecAugment(1, 7, 1, 9))
        rows, columns = (mel == 0).all(1).sum(), (mel == 0).all(0).sum()
        assert 1 <= rows <= 7 and 1 <= columns <= 9
        assert (mel == 0).sum() == rows * 80 + columns * 40 - rows * columns


class Fixed:
    """Gives the numbers it was given, as `integers`."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def integers(self, low, high):
        value = self.numbers.pop(0)
        assert low <= value < high
        return value


def test_substitution_is_the_published_one():
    mel = np.arange(20.0)[:, None].repeat(3, 1)
    # two stretches (start, length, how far back); the second reads what was there before the first
    substitute(mel, Fixed(10, 4, 6, 12, 30, 5), SpecAugment(subs=2, sub_max=30))
    assert mel[:, 0].tolist() == [*range(10), 4, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    assert (mel == mel[:, :1]).all()


def test_substitution_takes_earlier_frames():
    rng = np.random.default_rng(1)
    for frames in (1, 2, 50):
        for _ in range(50):
            mel = np.arange(float(frames))[:, None]
            substitute(mel, rng, SpecAugment(subs=3, sub_max=8))
            assert (mel[:, 0] <= np.arange(frames)).all() and (mel >= 0).all()
            assert (mel[:, 0] != np.arange(frames)).sum() <= 3 * 8


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5, 40.0])
def test_noise_has_the_ratio_it_was_asked_for(snr):
    rng = np.random.default_rng(2)
    wave = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    noise = rng.uniform(-1, 1, 5000).astype(np.float32)
    added = mix(wave, noise, snr, 4321) - wave
    assert abs(10 * np.log10(power(wave) / power(added)) - snr) < 0.1
    piece = np.tile(noise, 5)[4321:][:16000]  # repeated, from its sample 4321 on
    np.testing.assert_allclose(added / added[0], piece / piece[0], rtol=2e-2, atol=2e-3)


def test_silence_has_no_ratio():
    wave, silence = np.ones(10, np.float32), np.zeros(7, np.float32)
    assert mix(wave, silence, 5.0, 3) is wave and mix(silence, wave, 5.0, 0) is silence


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_length_and_pitch(speed):
    t = np.arange(16000) / 16000
    wave = change_speed(np.sin(2 * np.pi * 1000 * t).astype(np.float32), speed)
    assert wave.dtype == np.float32 and len(wave) == int(np.ceil(16000 / speed))
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert abs(spectrum.argmax() * 16000 / len(wave) - 1000 * speed) < 2


@pytest.mark.parametrize("speed", [0.5, 0.9, 0.95])
def test_the_slowest_speed_fits_what_was_planned(speed):
    rng = np.random.default_rng(3)
    wave = WaveAugment(speeds=[1.0, speed, 1.1])
    for samples in [*range(3200, 3200 + 160, 7), *rng.integers(3200, 60000, 30)]:
        frames = FEATURES.frames(int(samples))
        changed = FEATURES.frames(len(change_speed(np.zeros(samples, np.float32), speed)))
        assert frames < changed <= wave.longest(frames, "<TRANSCRIBE>") <= changed + 2 / speed
    assert wave.longest(100, "<TRANSCRIBE> <ALIGN>") == wave.longest(100, "srwt") == 100
    assert WaveAugment(speeds=[1.0, 1.1]).longest(100, "<TRANSCRIBE>") == 100


def test_volume_is_a_gain_in_its_range():
    augment = Augment(OFF, WaveAugment(volume_db=[-6.0, 3.0]))
    rng, wave = np.random.default_rng(4), np.ones(4, np.float32)
    gains = [20 * np.log10(augment.change_wave(wave, rng, "<TRANSCRIBE>")[0]) for _ in range(200)]
    assert -6 <= min(gains) < -5 and 2 < max(gains) <= 3.0001 and (wave == 1).all()


def loader(world, wave, cache=False, frames=(64, 90)):
    shapes = [shape(2, t, 60) for t in frames]
    sources = [("words", world / "words.jsonl", 1.0)]
    corpus = Corpus(sources, extractor(world), shapes, wave=wave)
    return Loader(corpus, 1, augment=Augment(OFF, wave), cache=cache)


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path, WORDS)


@pytest.fixture
def noises(tmp_path):
    rng = np.random.default_rng(5)
    for i in range(3):
        soundfile.write(tmp_path / f"n{i}.wav", rng.uniform(-0.9, 0.9, 3000 + 1000 * i), 16000)
    (tmp_path / "noise.list").write_text("n0.wav\n\nn1.wav\nn2.wav\n")
    return str(tmp_path / "noise.list")


def test_what_is_drawn_depends_on_seed_step_and_row_alone(world, noises):
    wave = WaveAugment([0.9, 1.0, 1.1], noises, 0.7, [5.0, 20.0], [-3.0, 3.0])
    first, again = loader(world, wave), loader(world, wave)
    batches = [first.micro_batch(step, 0) for step in range(6)]
    for step in (4, 1, 5, 0):  # resumed somewhere, in any order
        resumed = again.micro_batch(step, 0)
        assert all(np.array_equal(column, resumed[name]) for name, column in batches[step].items())
    lengths = {}
    for step in range(12):
        mel_len = first.micro_batch(step, 0)["mel_len_B"]
        for number, frames in zip(first.numbers(step), mel_len):  # empty rows come last
            lengths.setdefault(first.corpus.utterances[number].txt, set()).add(int(frames))
    for word, seen in lengths.items():
        samples = 1920 * len(word)
        assert seen <= {FEATURES.frames(int(np.ceil(samples / s))) for s in wave.speeds}
    assert max(len(seen) for seen in lengths.values()) > 1


def test_without_changes_of_the_waveform_nothing_is_drawn(world):
    plain = loader(world, WaveAugment())
    for number, utt in enumerate(plain.corpus.utterances):
        assert np.array_equal(plain.mel(number, None), features(utt))


def test_the_slowest_speed_decides_the_bucket(world):
    waves = WaveAugment(), WaveAugment(speeds=[0.9, 1.0])
    usual, slow = (loader(world, wave, frames=(60, 64, 70)) for wave in waves)
    longest = max(range(4), key=lambda n: usual.corpus.frames[n])
    assert (usual.corpus.buckets[longest], slow.corpus.buckets[longest]) == (0, 2)
    assert len(loader(world, WaveAugment(speeds=[0.8]), frames=(60,)).corpus.utterances) == 3


def test_texts_have_no_frames_at_any_speed(world):
    line = {"key": "a", "txt": "ab", "task": "<TEXT2TEXT>", "extra": {"question": "cd"}}
    (world / "words.jsonl").write_text(json.dumps(line))
    assert list(loader(world, WaveAugment(speeds=[0.5, 1.0])).corpus.frames) == [0]


def test_times_of_words_keep_their_speed(world):
    line = {"key": "a", "wav": "0.wav", "txt": "<0.00>abc<0.30>", "task": "<TRANSCRIBE> <ALIGN>"}
    (world / "words.jsonl").write_text(json.dumps(line))
    timed = loader(world, WaveAugment(speeds=[0.9]))
    mel_TF = timed.mel(0, np.random.default_rng(0))
    assert np.array_equal(mel_TF, features(timed.corpus.utterances[0]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"speeds": []}, "speeds"),
        ({"speeds": [0.1]}, "speeds"),
        ({"snr_db": [20.0, 5.0]}, "snr_db"),
        ({"volume_db": [1.0]}, "volume_db"),
        ({"noise_share": 1.5}, "noise_share"),
    ],
)
def test_impossible_settings_are_refused(wrong, says):
    with pytest.raises(UserError, match=f"^wave_augment.{says}: "):
        WaveAugment(**wrong)


def test_cached_features_cannot_change(tmp_path):
    from tests.training.tones import small_job

    job = small_job(tmp_path, tmp_path, data={"cache": True}, wave_augment={"speeds": [0.9, 1.0]})
    with pytest.raises(UserError, match="data.cache: keeps features, which wave_augment changes"):
        job_from(job, "job")
    assert job_from({**job, "wave_augment": {}}, "job").wave_augment == WaveAugment()


def test_noise_that_cannot_be_decoded_ends_the_job(world, noises, tmp_path):
    noisy = loader(world, WaveAugment(noise=noises, noise_share=1.0))
    for i in range(3):
        (tmp_path / f"n{i}.wav").write_text("damaged since")
    with pytest.raises(NoiseError, match=r"^wave_augment.noise: .*n\d.wav: not audio that can be read"):
        noisy.micro_batch(0, 0)
    assert not noisy.broken and not noisy.corpus.errors.count


def test_a_noise_list_is_checked_before_training(tmp_path, noises):
    for text, says in (("", "names no recording"), ("none.wav\n", "none.wav: no such audio file")):
        (tmp_path / "bad.list").write_text(text)
        with pytest.raises(UserError, match=says):
            Augment(OFF, WaveAugment(noise=str(tmp_path / "bad.list")))
    with pytest.raises(UserError, match="cannot read it"):
        Augment(OFF, WaveAugment(noise=str(tmp_path / "none.list")))
