"""A tiny model with random weights, prompts for it, and the same model as a folder."""

import numpy as np
import pytest

from tests.inference.common import SMALL, fill, random_prompt, small_folder


@pytest.fixture(scope="session")
def model():
    """SMALL with random weights."""
    from mindspore_osum.systems.osum.network import OsumModel

    model = OsumModel(SMALL)
    fill(model, seed=5)
    return model


@pytest.fixture(scope="session")
def generator(model):
    """One generator for all tests, so that each shape compiles once."""
    from mindspore_osum.inference.generate import Generator

    return Generator(model)


@pytest.fixture
def endless(generator, monkeypatch):
    """No token ends an answer of `generator`."""
    monkeypatch.setattr(generator, "eos_ids", frozenset())


@pytest.fixture
def prompt():
    """prompt(seed, text, frames=0) -> a random prompt for SMALL."""
    return lambda seed, text, frames=0: random_prompt(SMALL, np.random.default_rng(seed), text, frames)


@pytest.fixture(scope="session")
def model_folder(model, tmp_path_factory):
    """`model` on disk with a tokenizer of its vocabulary size."""
    return small_folder(tmp_path_factory.mktemp("model") / "tiny", model)
