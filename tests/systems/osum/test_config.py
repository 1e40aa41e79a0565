"""The rates of an OSUM model: mel frames, encoder frames, speech tokens."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.config import from_dict
from mindspore_osum.errors import UserError
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.systems.osum.config import MOST, ModelConfig

PUBLISHED = ModelConfig()


def test_a_published_token_is_eight_frames():
    frames_N = np.arange(1, 3000)
    one_by_one = [PUBLISHED.tokens(int(frames)) for frames in frames_N]
    assert one_by_one == [-(-frames // 8) for frames in frames_N] == PUBLISHED.tokens(frames_N).tolist()
    assert (PUBLISHED.frames_per_token, PUBLISHED.seconds_per_token) == (8, 0.08)
    assert [PUBLISHED.encoder.frames(frames) for frames in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert PUBLISHED.encoder.most == 6000


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_makes_a_token_of_the_frames_it_spans(kind):
    cfg = replace(PUBLISHED, adapter=replace(PUBLISHED.adapter, kind=kind))
    for tokens in (1, 2, 7, 100):
        frames = tokens * cfg.frames_per_token
        assert cfg.tokens(frames - 1) <= cfg.tokens(frames) == tokens < cfg.tokens(frames + 1)
    assert cfg.seconds_per_token == cfg.features.seconds(cfg.frames_per_token)


def test_what_it_hears_is_what_the_encoder_was_trained_with():
    cfg = replace(PUBLISHED, encoder=replace(PUBLISHED.encoder, n_mels=128, pad_to_seconds=30.0))
    assert (cfg.features.n_mels, cfg.features.padding) == (128, 3000)


@pytest.mark.parametrize("name", MOST)
def test_sizes_that_the_weights_do_not_show_are_bounded(name):
    values, most = PUBLISHED.to_dict(), MOST[name]
    *section, key = name.split(".")
    inside = values[section[0]] if section else values
    assert inside[key] <= most
    inside[key] = most + 1
    with pytest.raises(UserError, match=f"{name} must be at most"):
        from_dict(ModelConfig, values, "config.json")
