"""From the recording to the tokens that the published PyTorch code of OSUM gave: greedy and with 4 beams."""

import json

import numpy as np
import pytest

from mindspore_osum.folder import load_folder
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.joined import prepare
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import Audio, Text, lay_out
from tests.systems.osum.qwen2 import converted


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden/osum_qwen2"


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    """The published checkpoint, converted, its adapters merged."""
    return prepare(load_folder(converted(golden, tmp_path_factory.mktemp("golden"))))


def test_tokens(golden, model):
    told = json.loads((golden / "config.json").read_text("utf-8"))
    sample, mel_TF = told["samples"]["wav1"], log_mel(load_audio(golden / "wav1.wav"))
    speech = Audio(model.cfg.tokens(len(mel_TF)))
    prompt = Prompt(lay_out(None, [Text(sample["prompt_ids"]), speech]), mel_TF)
    generator = Generator(model)
    for name, how in told["generation"].items():
        sampling = Sampling(
            how["settings"]["max_new_tokens"],
            repetition_penalty=how["settings"]["repetition_penalty"],
            beams=how["settings"]["num_beams"],
            length_penalty=how["settings"]["length_penalty"] if how["settings"]["num_beams"] > 1 else None,
        )
        (found,) = generator.generate([prompt], sampling)
        assert found.tokens == how["tokens"], name
    with np.load(golden / "golden_wav1.npz") as arrays:
        assert found.tokens == arrays["beam4_tokens"][0].tolist()
