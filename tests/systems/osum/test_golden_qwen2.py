"""OSUM with Qwen2 against recorded outputs of its published PyTorch code, from its checkpoint and utterance.

Tolerances are those that the golden data were issued with, in absolute numbers; gradients relative to the
largest of their tensor. Legend: L positions, D width, V vocabulary.
"""

import json

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.torch_reader import open_torch
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.folder import load_folder
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.models.common import Item, Parts, gradients, pack
from tests.systems.osum.qwen2 import converted
from tests.systems.osum.test_golden import off

MODULES, LOGITS, LOSS, GRADIENTS = 1e-4, 2e-3, 1e-4, 1e-3


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden" / "osum_qwen2"


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "golden_wav1.npz") as npz:
        return dict(npz)


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    return converted(golden, tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def example(golden, folder):
    """The recorded utterance as the extractor lays it out for training, with the recorded wording."""
    sample = json.loads((golden / "config.json").read_text("utf-8"))["samples"]["wav1"]
    utt = Utterance("wav1", str(golden / "wav1.wav"), sample["txt"], sample["task"])
    extractor = SYSTEM.extractor(load_folder(folder).cfg, open_tokenizer(folder))
    assert sample["prompt_text"] in extractor.scan(utt).requests
    return extractor.example(utt, sample["prompt_text"], extractor.features(utt))


def test_checkpoint_and_back_byte_for_byte(golden, folder, tmp_path):
    back = tmp_path / "back.pt"
    convert(folder, back, buffers=True)
    told = json.loads((golden / "model_keys.json").read_text("utf-8"))
    with open_torch(golden / "model.pt") as source, open_torch(back) as found:
        assert source.infos.keys() == found.infos.keys() == told.keys()
        for key in told:
            if not key.endswith("pos_enc.pe"):  # computed: as many rows as published models have
                assert bytes(source.raw(key)) == bytes(found.raw(key)), key


def test_the_sequence(example, arrays):
    """[request][begin][speech][end][label and end], nothing else; only the label is learned."""
    assert example["labels_BL"].tolist() == arrays["train_labels"][0].tolist()
    prompt = arrays["train_in_prompt"][0].tolist()
    ids, rows = example["token_ids_BL"].tolist(), example["speech_row_BL"].tolist()
    assert ids[: len(prompt)] == prompt and rows[len(prompt) :][:3] == [0, 2, 3] and rows[-8] == 1
    assert example["positions_BL"].tolist() == arrays["train_position_ids"][0].tolist()
    assert off(example["mel_BTF"], arrays["train_in_feats"][0]) <= MODULES


@pytest.fixture(scope="module")
def computed(folder, example):
    """Loss, speech tokens, embeddings and scores of the padded utterance, and gradients by our names."""
    row_L = example["speech_row_BL"]
    ids_L = np.select([row_L == 0, row_L == 1, row_L > 1], [-2, -3, -1], example["token_ids_BL"])
    item = Item(example["mel_BTF"], ids_L.tolist(), example["labels_BL"].tolist())
    batch = pack([item], [[0]], item.frames + 3, len(item.ids) + 5)
    (loss, z_NZD, len_N, x_BLD, logits_BLV), grads = gradients(Parts(load_folder(folder)), *batch)
    length = len(item.ids)
    return loss, z_NZD[0, : len_N[0]], x_BLD[0, :length], logits_BLV[0, :length], grads


def test_loss_and_scores(computed, arrays):
    loss, z_ZD, x_LD, logits_LV, _ = computed
    assert off(z_ZD, arrays["train_speech_embeds"][0]) <= MODULES
    assert off(x_LD, arrays["train_inputs_embeds"][0]) <= MODULES
    assert abs(float(loss) - float(arrays["train_loss"])) <= LOSS
    assert off(logits_LV, arrays["train_logits"][0]) <= LOGITS
    assert np.array_equal(logits_LV.argmax(-1), arrays["train_argmax"][0])
    start = len(logits_LV) - len(arrays["train_in_target"][0]) - 1  # the last position of the prompt
    assert off(logits_LV[start], arrays["greedy_first_logits"]) <= LOGITS


def test_gradients(computed, golden, folder):
    form, grads = SYSTEM.forms(load_folder(folder).cfg)["published"], computed[-1]
    names = {name: form.theirs(name.removeprefix("model."), peft=True) for name in grads}
    ours = {form.plain(key): grads[name] for name, key in names.items()}
    with np.load(golden / "gradients_wav1.npz") as npz:
        recorded = {form.plain(key): npz[key] for key in npz}
    assert recorded and recorded.keys() <= ours.keys()
    for key, want in recorded.items():
        if key.startswith("speech_transformer") and key.endswith("linear_k.bias"):
            assert np.abs(ours[key]).max() < 1e-6, key  # 0 in mathematics
        else:
            assert off(ours[key], want) <= GRADIENTS * np.abs(want).max(), key
