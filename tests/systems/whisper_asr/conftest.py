import pytest

from ckpt_convert.convert import convert
from tests.systems.whisper_asr.common import small_folder, write_tokenizer


@pytest.fixture(scope="session")
def golden(shared):
    """The folder of golden data."""
    return shared / "golden/whisper_decoder"


@pytest.fixture(scope="session")
def folder(golden, tmp_path_factory):
    """openai-whisper's file of the golden model as a model folder."""
    home = tmp_path_factory.mktemp("whisper")
    convert(golden / "tiny.pt", home / "model", tokenizer=write_tokenizer(home))
    return home / "model"


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A model folder with random weights, whose windows are short."""
    return small_folder(tmp_path_factory.mktemp("small") / "model")
