"""The system against the golden numbers of a reference of the paper in PyTorch.

Tolerances are those that the golden data were issued with; gradients relative to the largest.
Legend: T mel frames, U encoder frames, L positions.
"""

import json

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Tensor, nn  # noqa: E402

from mindspore_osum.data.batches.batching import Shape, padded_batch, step_columns  # noqa: E402
from mindspore_osum.data.formats.manifest import Utterance  # noqa: E402
from mindspore_osum.folder import load_folder  # noqa: E402
from mindspore_osum.inference.engine import Engine  # noqa: E402
from mindspore_osum.inference.request import make_request  # noqa: E402
from mindspore_osum.inference.sampling import Sampling  # noqa: E402
from mindspore_osum.models.ops import segment_causal_mask  # noqa: E402
from mindspore_osum.systems.registry import system_of  # noqa: E402
from mindspore_osum.text.tokenizer import open_tokenizer  # noqa: E402
from tests.models.common import gradients  # noqa: E402
from tests.systems.linear_aligner.common import converted  # noqa: E402

MODULES, LOGITS, LOSS, GRADIENTS = 1e-4, 1e-3, 1e-4, 1e-3
SYSTEM = system_of("linear_aligner")


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden" / "linear_aligner"


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    return converted(golden, tmp_path_factory.mktemp("golden") / "model")


@pytest.fixture(scope="module")
def recorded(golden):
    with np.load(golden / "golden_asr_wav4.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def item(golden):
    return json.loads((golden / "config.json").read_text("utf-8"))["items"]["asr_wav4"]


@pytest.fixture(scope="module")
def example(folder, golden, item):
    """The columns of the golden utterance."""
    model = load_folder(folder).cfg
    extractor = SYSTEM.extractor(model, open_tokenizer(folder))
    utt = Utterance("wav4", str(golden / "wav4.wav"), item["answer"], "<TRANSCRIBE>")
    assert not list(extractor.flaws(utt, 3.0))
    found = extractor.example(utt, None, extractor.features(utt))
    assert extractor.scan(utt).text + model.tokens(len(found["mel_BTF"])) == item["length"]
    return found


def off(got, want) -> float:
    """max |got - want|."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max())


def test_sequence_and_features(example, recorded, item):
    ids_L, is_speech = example["token_ids_BL"], example["speech_row_BL"] >= 0
    before, after, answer = (recorded[f"ids_{name}"].tolist() for name in ("before", "after", "answer"))
    assert ids_L[~is_speech].tolist() == before + after + answer
    assert is_speech.sum() == 1500 and is_speech[len(before)] and len(ids_L) == item["length"]
    assert example["labels_BL"][example["labels_BL"] >= 0].tolist() == answer
    mel_TF = example["mel_BTF"]
    assert off(mel_TF[:400].T, recorded["mel_first400"]) <= MODULES
    assert off(mel_TF[-1], recorded["mel_last"]) <= MODULES


class Stages(nn.Cell):
    """The loss of a batch and what is computed on the way to it."""

    def __init__(self, objective, names):
        super().__init__(auto_prefix=False)
        self.objective, self.names = objective, names

    def construct(self, *columns):
        batch = {name: column for name, column in zip(self.names, columns)}  # noqa: C416
        model = self.objective.model
        loss = self.objective(batch)[0]
        encoded_BUE, len_B = model.encoder(batch["mel_BTF"], batch["mel_len_B"])
        z_BZD, _ = model.adapter(encoded_BUE, len_B)
        x_BLD = model.embed(batch["token_ids_BL"], batch["speech_row_BL"], z_BZD)
        mask = segment_causal_mask(batch["segments_BL"])
        logits_BLV = model.decoder.logits(model.decoder(x_BLD, batch["positions_BL"], mask))
        return loss, encoded_BUE, z_BZD, x_BLD, logits_BLV


def test_loss_and_gradients(folder, example, recorded):
    model = load_folder(folder, train=True)
    extractor = SYSTEM.extractor(model.cfg, open_tokenizer(folder))
    shape = Shape(1, len(example["mel_BTF"]), 1500, 52)
    batch = padded_batch(extractor.columns, extractor.sizes, shape, [example])
    targets = float((example["labels_BL"] >= 0).sum())
    batch |= step_columns(1, 0, 1.0, targets)
    cell = Stages(SYSTEM.objective(model, None, 0, 0, True), tuple(batch))
    (loss, encoded, z, x, logits), grads = gradients(cell, *map(Tensor, batch.values()))
    length = len(example["token_ids_BL"])
    tail = len(recorded["inputs_embeds_tail"])
    assert off(encoded[0], recorded["encoder_out"]) <= MODULES
    assert off(z[0, ::10], recorded["aligner_out"]) <= MODULES
    assert off(x[0, length - tail : length], recorded["inputs_embeds_tail"]) <= MODULES
    assert off(logits[0, length - tail : length], recorded["logits_from_endofaudio"]) <= LOGITS
    assert abs(float(loss) - float(recorded["loss"])) <= LOSS
    for name in ("weight", "bias"):
        (grad,) = (g for key, g in grads.items() if key.endswith(f"adapter.proj.{name}"))
        want = recorded[f"grad_{name}"]
        assert off(grad, want) <= GRADIENTS * np.abs(want).max()


def test_tokens_of_a_request(folder, example, recorded):
    """Greedy, of the prompt of `osum infer --task asr`; some are rows behind the tokenizer's pieces."""
    engine = Engine(folder)
    prompts, mel_TF = SYSTEM.prompts(engine.cfg, engine.tokenizer), example["mel_BTF"]
    prompt = prompts.prompt(make_request("asr"), engine.cfg.tokens(len(mel_TF)), mel_TF)
    answer = engine.generator.generate(
        [prompt], Sampling(max_new_tokens=len(recorded["greedy"]), repetition_penalty=1.0)
    )[0]
    assert answer.tokens == recorded["greedy"].tolist()
