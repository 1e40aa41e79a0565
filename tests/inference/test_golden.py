"""From the recording to the tokens that the published PyTorch code gave, all 40 of each form."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.folder import write_config
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.template import Turn
from tests.systems.osum.test_golden import described

SAMPLING = Sampling(max_new_tokens=40)


@pytest.fixture(scope="module")
def values(shared):
    return json.loads((shared / "golden" / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def engine(shared, values, tmp_path_factory):
    """The published checkpoint, converted, with the prompts of the published inference code."""
    folder = tmp_path_factory.mktemp("golden")
    write_config(folder, replace(described(values), prompts="osum_pangu_published_inference"))
    settings = Settings(config=str(folder / "config.json"))
    golden = shared / "golden"
    convert(golden / "model.pt", folder / "model", settings=settings, tokenizer=golden / "tokenizer.model")
    return Engine(folder / "model")


@pytest.fixture(scope="module")
def recorded(shared):
    with np.load(shared / "golden" / "golden_wav1.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("form, output_type", [("gen", "text"), ("chat", "s2t_chat")])
def test_tokens(shared, values, engine, recorded, form, output_type):
    mel_TF = log_mel(load_audio(shared / "golden" / "wav1.wav"))
    words = {"request": values["instructions"]["wav1"]}
    turn = Turn(output_type, words, engine.cfg.tokens(len(mel_TF)))
    sequence = engine.template.sequence(engine.tokenizer, turn)
    assert sequence.ids_L.tolist() == recorded[f"{form}_input_ids"][0].tolist()
    answer = engine.generator.generate([Prompt(sequence, mel_TF)], SAMPLING)[0]
    assert answer.tokens == recorded[f"{form}_tokens"].tolist()
    assert recorded[f"{form}_margins"].min() > 1e-2  # so that rounding cannot matter


@pytest.mark.parametrize(
    "form, request_",
    [("gen", make_request(instruction="你能听这段语音然后告诉我内容吗？")), ("chat", make_request("sttc"))],
)
def test_text_through_the_engine(shared, values, engine, form, request_):
    published = replace(request_, force_tags=False)  # that code lets the model write its tags
    result = engine.answer([shared / "golden" / "wav1.wav"], sampling=SAMPLING, requests=[published])[0]
    assert result.raw == values["samples"]["wav1"][f"{form}_text"]
    assert result.error is None and result.cut
