"""Network and greedy decoding against openai-whisper and transformers (golden/whisper_decoder)."""

import json
from pathlib import Path

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.torch_reader import open_torch
from mindspore_osum.cli import main
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.whisper_asr.answer import compression_ratio
from mindspore_osum.systems.whisper_asr.vocabulary import DETECT
from mindspore_osum.weights_io import open_weights
from tests.systems.whisper_asr.common import prompt, scores

SOT, EN, TRANSCRIBE, NO_TIMES = 50258, 50259, 50359, 50363
MOST = 40  # tokens of the golden answers


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "golden_wav4.npz") as npz:
        return dict(npz)


@pytest.fixture(scope="module")
def told(golden):
    return json.loads((golden / "config.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model(folder):
    pytest.importorskip("mindspore")
    from mindspore_osum.device import use_device
    from mindspore_osum.folder import load_folder

    use_device("CPU")
    return load_folder(folder)


@pytest.fixture(scope="module")
def mel_TF(golden, model):
    return log_mel(load_audio(golden / "wav4.wav"), model.cfg.features)


def test_features_are_of_thirty_seconds(mel_TF, arrays):
    assert mel_TF.shape == (3000, 80)
    assert np.abs(mel_TF[:400].T - arrays["mel_first400"]).max() < 1e-4
    assert np.abs(mel_TF[400:] - arrays["mel_pad_value"]).max() < 1e-4


def test_network(model, mel_TF, arrays):
    import mindspore as ms
    from mindspore import Tensor

    frames_1UD, _ = model.encoder(Tensor(mel_TF[None]), Tensor([len(mel_TF)], ms.int32))
    assert np.abs(frames_1UD.asnumpy() - arrays["encoder_out"]).max() < 1e-4
    for name in ("tf", "tf_ts"):
        found_LV, columns = scores(model, mel_TF, arrays[f"{name}_tokens"]), arrays["cols_index"]
        assert np.abs(found_LV[:, columns] - arrays[f"{name}_cols"]).max() < 1e-3
        assert np.array_equal(np.argsort(-found_LV)[:, :10], arrays[f"{name}_top10_ids"])


def test_reference(model, golden, folder, tmp_path):
    """The two sides of a verification, for every form of a checkpoint."""
    pytest.importorskip("transformers", reason="needs transformers as reference")
    from mindspore_osum.systems.whisper_asr import reference, verify

    inputs = verify.inputs(model.cfg, 96, 12, np.random.default_rng(0))
    ours = verify.stages(model, inputs, ("encoder", "logits"))
    convert(folder, tmp_path / "wenet.pt", form="wenet")
    for source in (golden / "tiny.pt", tmp_path / "wenet.pt", golden / "hf"):
        with open_weights(source) if source.is_dir() else open_torch(source) as weights:
            theirs = reference.stages(weights, model.cfg, None, inputs, "model")
        for name, expected in theirs.items():
            assert np.abs(ours[name] - expected).max() < 1e-4 * np.abs(expected).max(), (source, name)


@pytest.fixture(scope="module")
def prepared(folder):
    """The model as it answers."""
    pytest.importorskip("mindspore")
    from mindspore_osum.device import use_device
    from mindspore_osum.folder import load_folder
    from mindspore_osum.models.joined import prepare

    use_device("CPU")
    return prepare(load_folder(folder))


def test_prepared_graphs_copy_no_weights(prepared, mel_TF):
    """MindSpore copies a parameter, at every call, that is read before and after a function it does not see
    through, as a cell with a gradient of its own."""
    from mindspore import Tensor

    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.models.graph_nodes import nodes

    generator = Generator(prepared)
    prefill, step, rows = generator._graphs(2, 64)
    asked = [prompt([SOT, DETECT, TRANSCRIBE, NO_TIMES], mel_TF)] * rows
    ints_B, penalty_B = Tensor(np.ones(rows, np.int32)), Tensor(np.ones(rows, np.float32))
    memory_BR = Tensor(np.zeros((rows, generator.parts.rules.width), np.int32))
    for graph, inputs in (
        (step, (ints_B, ints_B, penalty_B, memory_BR)),
        (prefill, generator._inputs(asked, rows, 4)),
    ):
        found = [node.name for node in nodes(graph.cell, *inputs)]
        assert "BatchMatMul" in found and "TensorMove" not in found


def test_greedy_decoding(prepared, mel_TF, arrays, told):
    from mindspore_osum.inference.generate import Generator

    generator, sampling = Generator(prepared), Sampling(max_new_tokens=MOST, loops="keep")
    for times in (False, True):
        expected = told["decode"][f"wav4_without_timestamps={not times}"]
        ids = [SOT, EN, TRANSCRIBE] + [NO_TIMES] * (not times)
        (found,) = generator.generate([prompt(ids, mel_TF)], sampling)
        assert found.tokens == expected["tokens"]
        assert found.sum_log_p / (len(found.tokens) + 1) == pytest.approx(expected["avg_logprob"], abs=1e-4)
        silence = found.facts["no_speech_probability"]
        assert silence == pytest.approx(expected["no_speech_prob"], rel=1e-3)
        assert found.facts["language"] == "en"  # that of the prompt
        chance = arrays["language_probs"][told["languages"].index("en")]
        assert found.facts["language_probability"] == pytest.approx(chance, abs=1e-5)
    (found,) = generator.generate([prompt([SOT, DETECT, TRANSCRIBE, NO_TIMES], mel_TF)], sampling)
    best = int(arrays["language_probs"].argmax())
    assert found.facts["language"] == told["languages"][best]
    chance = arrays["language_probs"][best]
    assert found.facts["language_probability"] == pytest.approx(chance, abs=1e-5)
    (again,) = generator.generate([prompt([SOT, EN + best, TRANSCRIBE, NO_TIMES], mel_TF)], sampling)
    assert again.tokens == found.tokens
    assert generator.compiles == 3  # prefill, step, and the probability of a token


BEAMS = json.loads(Path(__file__).with_name("beams.json").read_text("utf-8"))
SETTINGS = [(3, 2.0, None), (4, None, 0.6), (2, None, 1.0), (8, None, None)]


@pytest.mark.parametrize(
    "beams, patience, length_penalty",
    [(5, None, None), *(pytest.param(*one, marks=pytest.mark.slow) for one in SETTINGS)],
)
def test_beams(model, golden, mel_TF, beams, patience, length_penalty):
    """Tokens of openai-whisper 20250625, `DecodingOptions(language="en", sample_len=40, beam_size=...)`, for
    the golden recording and for it backwards, which are one batch here."""
    from mindspore_osum.inference.generate import Generator

    wave_N = load_audio(golden / "wav4.wav")
    mels = {False: mel_TF, True: log_mel(wave_N[::-1], model.cfg.features)}
    sampling = Sampling(
        max_new_tokens=MOST, loops="keep", beams=beams, patience=patience or 1, length_penalty=length_penalty
    )
    generator = Generator(model)
    for times in (False, True):
        expected = [
            one
            for one in BEAMS
            if [one.get(name) for name in ("beam_size", "patience", "length_penalty", "timestamps")]
            == [beams, patience, length_penalty, times]
        ]
        ids = [SOT, EN, TRANSCRIBE] + [NO_TIMES] * (not times)
        prompts = [prompt(ids, mels[one["reversed"]]) for one in expected]
        found = generator.generate(prompts, sampling)
        for one, answer in zip(expected, found, strict=True):
            assert answer.tokens == one["tokens"], one
            assert answer.mean_log_p == pytest.approx(one["avg_logprob"], abs=1e-4)
            assert answer.facts["language"] == "en"


def test_the_command(golden, folder, told, capfd):
    """All the way to the answer; each section has the times that were written."""
    args = ["transcribe", str(golden / "wav4.wav"), "--model", str(folder), "--max-new-tokens", str(MOST)]
    args += ["--format", "json", "--language", "English", "--task", "transcribe"]
    assert main([*args, "--no-fallback", "--long", "pauses"]) == 0
    found = json.loads(capfd.readouterr().out)
    expected = told["decode"]["wav4_without_timestamps=False"]
    assert found["language"] == "en" and found["segments"][0]["start"] == (expected["tokens"][0] - 50364) / 50
    assert found["segments"][0]["avg_logprob"] == pytest.approx(expected["avg_logprob"], abs=1e-4)
    assert found["segments"][0]["no_speech_prob"] == pytest.approx(0, abs=1e-5)
    assert found["segments"][0]["temperature"] == 0
    ratio = found["segments"][0]["compression_ratio"]
    assert ratio == pytest.approx(compression_ratio(found["text"]), abs=0.05)
    # as usual it is read by seeking, and the section has the times of its words
    assert main([*args, "--no-fallback", "--word-times"]) == 0
    timed = json.loads(capfd.readouterr().out)
    assert timed["segments"][0]["start"] == timed["words"][0][1]
    assert [word for one in timed["segments"] for word in one["words"]] == timed["words"]
    moments = [moment for _, *span in timed["words"] for moment in span]
    assert moments == sorted(moments)
    # these words are unlikely at every temperature
    assert main([*args, "--long", "pauses"]) == 0
    drawn = json.loads(capfd.readouterr().out)
    assert {one["temperature"] for one in drawn["segments"]} == {1.0} and drawn["text"] != found["text"]
