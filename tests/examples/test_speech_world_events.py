"""The vocal events of the speech world: well formed, repeatable, and told apart by their log-mel pictures."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.speech.features import log_mel
from mindspore_osum.tasks import LABEL_SETS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "speech_world"))
import events  # noqa: E402

RATE = 16000
TRAINED, UNSEEN = 40, 20


def draws(name: str, seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, events.EVENTS.index(name)])
    return [events.event(name, rng) for _ in range(count)]


def statistics(wave: np.ndarray) -> np.ndarray:
    mel_TF = log_mel(wave)
    return np.concatenate([mel_TF.mean(0), mel_TF.std(0)])


def test_events_are_the_labels_of_the_task():
    assert events.EVENTS == LABEL_SETS["caption"].values


@pytest.mark.parametrize("name", events.EVENTS)
def test_form(name):
    for wave in draws(name, 1, 30):
        assert wave.dtype == np.float32 and wave.ndim == 1
        assert 0.35 <= len(wave) / RATE <= 0.7
        assert np.abs(wave).max() == 1
        for end in (wave[: RATE // 100], wave[-RATE // 100 :]):
            assert np.abs(end).max() > 0.005


@pytest.mark.parametrize("name", events.EVENTS)
def test_same_generator_same_event_and_every_draw_another(name):
    first, second = draws(name, 2, 2)
    np.testing.assert_array_equal(first, draws(name, 2, 1)[0])
    assert len(first) != len(second) or not np.allclose(first, second)


def test_other_rates():
    wave = events.event("LAUGH", np.random.default_rng(0), rate=22050)
    assert 0.35 <= len(wave) / 22050 <= 0.7


def test_refused():
    with pytest.raises(UserError, match="YAWN.*LAUGH"):
        events.event("YAWN", np.random.default_rng(0))
    with pytest.raises(UserError, match="8000"):
        events.event("LAUGH", np.random.default_rng(0), rate=8000)


def test_told_apart_by_simple_statistics():
    """A linear classifier of mean and deviation of each mel bin knows at least 95 % of unseen draws."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def table(seed: int, count: int) -> tuple[np.ndarray, list[str]]:
        waves = [(name, wave) for name in events.EVENTS for wave in draws(name, seed, count)]
        return np.stack([statistics(wave) for _, wave in waves]), [name for name, _ in waves]

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*table(3, TRAINED))
    assert model.score(*table(4, UNSEEN)) >= 0.95
