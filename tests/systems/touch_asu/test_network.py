"""Slots with too few frames for a token: the published placeholder, and our own way; lengths in a batch."""

from dataclasses import replace

import numpy as np
import pytest
from mindspore import Tensor, nn

from mindspore_osum.systems.registry import preset, system_of
from tests.inference.common import fill

SYSTEM, CFG = system_of("touch_asu"), preset("touch_asu_tiny")
LENGTHS = (41, 46, 47, 48, 20)  # mel frames: leftover where a length modulo 8 is 1 to 6
LEFT = (True, True, False, False, True)


class Speech(nn.Cell):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_BTF, mel_len_B):
        return self.model.encode_speech(mel_BTF, mel_len_B)


@pytest.fixture(scope="module")
def mel_BTF():
    return np.random.default_rng(0).standard_normal((len(LENGTHS), 50, 80)).astype(np.float32)


def speech(kind: str, mel_BTF) -> tuple:
    """A model with so handled leftovers, and its speech tokens of the batch and of each recording alone."""
    model = SYSTEM.build(replace(CFG, leftover=kind))
    fill(model, seed=2)
    cell, lengths = Speech(model), Tensor(np.array(LENGTHS, np.int32))
    z_BZD, whole_B = (x.asnumpy() for x in cell(Tensor(mel_BTF), lengths))
    alone = [
        cell(Tensor(mel_BTF[n : n + 1, :count]), Tensor(np.array([count], np.int32)))[0].asnumpy()[0]
        for n, count in enumerate(LENGTHS[:3])
    ]
    return model, z_BZD, whole_B, alone


@pytest.fixture(scope="module")
def placeholder(mel_BTF):
    return speech("placeholder", mel_BTF)


@pytest.fixture(scope="module")
def frames(mel_BTF):
    return speech("frames", mel_BTF)


def test_slots_and_whole_tokens(placeholder):
    whole_B = placeholder[2]
    slots = [int(CFG.tokens(n)) for n in LENGTHS]
    assert slots == [6, 6, 6, 6, 3] and whole_B.tolist() == [5, 5, 6, 6, 2]
    assert [a > b for a, b in zip(slots, whole_B, strict=True)] == list(LEFT)


def test_a_batch_is_its_recordings_one_by_one(placeholder, frames):
    for _, z_BZD, _, alone in (placeholder, frames):
        for n, z_ZD in enumerate(alone):
            assert len(z_ZD) == CFG.tokens(LENGTHS[n])
            assert np.abs(z_BZD[n, : len(z_ZD)] - z_ZD).max() <= 1e-5 * np.abs(z_ZD).max()


def test_the_last_slot(placeholder, frames):
    """The embedding of token 0, or a token of the frames that are left; all other slots are the same."""
    model, z_BZD, whole_B, _ = placeholder
    row_D = model.decoder.model.embed_tokens.weight.asnumpy()[0]
    for n, whole in enumerate(whole_B):
        assert np.abs(z_BZD[n, :whole] - frames[1][n, :whole]).max() <= 1e-6
        last = int(CFG.tokens(LENGTHS[n])) - 1
        assert np.array_equal(z_BZD[n, last], row_D) == LEFT[n]
        assert not np.array_equal(frames[1][n, last], row_D)
