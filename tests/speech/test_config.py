import numpy as np

from mindspore_osum.speech.config import FEATURES, FeatureConfig


def test_frames_of_samples():
    assert [FEATURES.frames(n) for n in (1, 159, 160, 319, 320, 16_000)] == [1, 1, 1, 1, 2, 100]


def test_frames_and_seconds_are_rounded_once():
    assert all(FEATURES.seconds(frames) == frames / 100 for frames in range(100_000))
    times = np.random.default_rng(0).uniform(0, 60, 10_000)
    assert all(FEATURES.frames_in(s) == round(s * 100) for s in [*times, *(n / 200 for n in range(9999))])


def test_padding():
    assert FeatureConfig(pad_to_seconds=30.0).padding == 3000 and FEATURES.padding == 1
