"""From recordings to the named inputs of the model, to its logits and to what encoder and adapter make."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum import OSUM
from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import make_request
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.registry import system_of
from tests.speech.voices import RECORDINGS

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"task": "sap"}


@pytest.fixture(scope="module")
def osum(model_folder):
    return OSUM.load(model_folder)


def first_scores(osum, sources, request) -> np.ndarray:
    """What generation has of its prefill, (B, V)."""
    generator = osum.engine.generator
    prompts = [osum.engine.prompt(source, request)[0] for source in sources]
    prefill, _, batch = generator._graphs(len(prompts), 128)
    return generator._run(prefill, *generator._inputs(prompts, batch, 64))[2].asnumpy()


def test_logits_are_the_scores_of_generation(osum):
    sources = RECORDINGS[:2]
    inputs = osum.inputs(sources, **ASKED)
    logits_BLV = osum.logits(inputs)
    assert logits_BLV.dtype == np.float32 and logits_BLV.shape[:2] == inputs["token_ids_BL"].shape
    expected_BV = first_scores(osum, sources, replace(make_request("sap"), force_tags=False))
    last_B = inputs["segments_BL"].sum(1) - 1
    found_BV = logits_BLV[np.arange(2), last_B]
    assert np.abs(found_BV - expected_BV).max() <= 1e-5 * np.abs(expected_BV).max()
    assert len(set(last_B)) == 2 and np.abs(found_BV[0] - found_BV[1]).max() > 1e-2


def test_names_and_types_are_those_of_training(osum):
    inputs = osum.inputs(RECORDINGS[0], "what do you hear")
    columns = {column.name: column.dtype for column in system_of("osum").columns}
    assert inputs.keys() <= columns.keys()
    assert {name: x.dtype for name, x in inputs.items()} == {name: columns[name] for name in inputs}


def test_a_recording_and_its_log_mel_are_the_same(osum):
    mel_TF = log_mel(load_audio(RECORDINGS[0]), osum.engine.cfg.features)
    by_wave, by_mel = osum.inputs(RECORDINGS[0]), osum.inputs(mel_TF)
    assert list(by_wave) == list(by_mel)
    assert all(np.array_equal(by_wave[name], by_mel[name]) for name in by_wave)


def test_what_encoder_and_adapter_make(osum):
    from mindspore import Tensor

    sources, cfg = RECORDINGS[:2], osum.engine.cfg
    found, inputs = osum.encode(sources), osum.inputs(sources)
    assert list(found) == ["encoder_BUE", "encoder_len_B", "adapter_BZD", "adapter_len_B"]
    assert found["encoder_BUE"].shape[2] == cfg.encoder.d_model
    assert found["encoder_len_B"].tolist() == [cfg.encoder.frames(n) for n in inputs["mel_len_B"].tolist()]
    assert found["adapter_len_B"].tolist() == [cfg.tokens(n) for n in inputs["mel_len_B"].tolist()]
    mel = (Tensor(inputs[name]) for name in ("mel_BTF", "mel_len_B"))
    z_BZD = osum.model.encode_speech(*mel)[0].asnumpy()
    for row, count in enumerate(found["adapter_len_B"]):
        difference = np.abs(found["adapter_BZD"][row, :count] - z_BZD[row, :count]).max()
        assert difference <= 1e-5 * np.abs(z_BZD).max()


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("absent.wav", "absent.wav: no such audio file"),
        (np.zeros(16_000, np.float32), r"array of shape \(16000,\): alone it is log-mel, \(frames, 80\)"),
        (np.zeros((9000, 80), np.float32), "90.00 s of audio, the model takes at most 60 s"),
    ],
)
def test_mistakes(osum, audio, message):
    with pytest.raises(UserError, match=message) as caught:
        osum.inputs(audio)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_documentation_runs(monkeypatch, capsys):
    """docs/API.md's, as it stands, with the bundled model."""
    monkeypatch.chdir(RECORDINGS[0].parent)
    text = (ROOT / "docs" / "API.md").read_text("utf-8")
    (example,) = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "osum.logits" in code
    ]
    names: dict = {}
    exec(compile(example.replace("a.wav", RECORDINGS[0].name), "docs/API.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "adapter_BZD" in printed and names["logits_BLV"].ndim == 3
