"""Fixtures of the speech world's tests; its scripts import each other by name, so their folder is a path."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.examples.common import FOLDER, run, run_generate

sys.path.insert(0, str(FOLDER))


@pytest.fixture(scope="session")
def plans() -> dict[str, list]:
    """The plans of the default corpus."""
    from plan import plan

    return {
        split: plan(split, count, seed=1)
        for split, count in (("train", 18000), ("valid", 200), ("test", 900))
    }


@pytest.fixture(scope="session")
def installed() -> None:
    import espeak

    pytest.importorskip("pypinyin", reason="needs pypinyin (extra dev)")
    if shutil.which("espeak-ng") is None:
        pytest.skip(f"needs espeak-ng: {espeak.INSTALL}")


@pytest.fixture(scope="session")
def corpus(installed, tmp_path_factory) -> Path:
    """A small corpus, made by two processes."""
    output = tmp_path_factory.mktemp("world")
    done = run_generate(output, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def data(installed, tmp_path_factory) -> Path:
    """A folder of espeak-ng data as generate.py makes it."""
    import espeak

    folder = tmp_path_factory.mktemp("espeak")
    espeak.link_data(espeak.installation()[1], folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory) -> Path:
    model = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    done = run("make_tokenizer.py", "--output", model)
    assert done.returncode == 0, done.stderr
    return model
