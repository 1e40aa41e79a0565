"""The composite against recorded outputs of the published PyTorch code, from its checkpoint and recording.

Tolerances are those that the golden data were issued with, in absolute numbers.
Legend: T mel frames, F mel bins, L positions, D width, V vocabulary.
"""

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from mindspore import Tensor, nn

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.folder import load_folder, write_config
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.ops import Gelu
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.osum.config import ModelConfig
from tests.models.common import Item, Parts, pack

MODULES, LOGITS, LOSS = 1e-4, 1e-3, 1e-4


def described(values: dict) -> ModelConfig:
    """The golden data's own description of its model, as ours."""
    enc, ada, llm = values["encoder"], values["adapter"]["speech_transformer"], values["llm"]
    return ModelConfig(
        encoder=EncoderConfig(
            n_mels=enc["input_dim"],
            d_model=enc["output_size"],
            n_layers=enc["num_blocks"],
            n_heads=enc["attention_heads"],
            d_ff=enc["linear_units"],
            norm_eps=enc["norm_eps"],
        ),
        adapter=AdapterConfig(
            n_layers=ada["num_blocks"],
            n_heads=ada["attention_heads"],
            d_ff=ada["linear_units"],
            norm_eps=ada["norm_eps"],
        ),
        decoder=DecoderConfig(
            vocab_size=llm["vocab_size"],
            d_model=llm["hidden_size"],
            n_layers=llm["num_hidden_layers"],
            n_heads=llm["num_attention_heads"],
            n_kv_heads=llm["num_key_value_heads"],
            head_dim=llm["head_dim"],
            d_ff=llm["intermediate_size"],
            rope_theta=llm["rope_theta"],
            norm_eps=llm["rms_norm_eps"],
            eos_id=llm["eos_token_id"],
        ),
        lora=LoraConfig(rank=values["lora"]["r"], alpha=values["lora"]["alpha"], dropout=0.0),
        speech_token_num=values["speech_tokens"]["speech_token_num"],
    )


@pytest.fixture(scope="module")
def golden(shared):
    """Recorded arrays by name."""
    with np.load(shared / "golden" / "golden_wav1.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model(shared, tmp_path_factory):
    """The published checkpoint through the converter."""
    folder = tmp_path_factory.mktemp("golden")
    values = json.loads((shared / "golden" / "config.json").read_text(encoding="utf-8"))
    write_config(folder, described(values))
    settings = Settings(config=str(folder / "config.json"))
    source, tokenizer = shared / "golden" / "model.pt", shared / "golden" / "tokenizer.model"
    convert(source, folder / "model", settings=settings, tokenizer=tokenizer)
    return load_folder(folder / "model")


@pytest.fixture(scope="module")
def mel_TF(shared):
    return log_mel(load_audio(str(shared / "golden" / "wav1.wav")))


def off(got, want) -> float:
    """max |got - want|."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max())


def test_features(mel_TF, golden):
    assert off(mel_TF, golden["feats"][0]) <= MODULES


class Stages(nn.Cell):
    """Outputs of encoder, adapter convolutions, adapter transformer and projection."""

    def __init__(self, model):
        super().__init__()
        self.encoder, self.adapter, self.gelu = model.encoder, model.adapter, Gelu()

    def construct(self, mel_NTF, mel_len_N):
        h_NUD, len_N = self.encoder(mel_NTF, mel_len_N)
        x_NDU = h_NUD.transpose((0, 2, 1))
        for conv in self.adapter.conv:
            x_NDU = self.gelu(conv(x_NDU))
        x_NZD = x_NDU.transpose((0, 2, 1))
        y_NZD = self.adapter.transformer(x_NZD, (len_N + 3) // 4)
        return h_NUD, x_NZD, y_NZD, self.adapter.proj(y_NZD)


def test_modules(model, golden):
    feats = golden["feats"]
    got = Stages(model)(Tensor(feats), Tensor(np.array([feats.shape[1]], np.int32)))
    for name, out in zip(("encoder_out", "adapter_conv_out", "speech_transformer_out", "speech_embeds"), got):
        assert off(out.asnumpy(), golden[name]) <= MODULES, name


def bf16(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


class Sequence(NamedTuple):
    """What the model makes of one hybrid sequence."""

    ids_L: np.ndarray
    z_ZD: np.ndarray
    x_LD: np.ndarray
    logits_LV: np.ndarray


@pytest.fixture(scope="module")
def sequences(model, golden, mel_TF):
    """The recorded sequences by name, from the wav, computed as one padded batch; and the training loss."""

    def item(name: str, more: str | None = None) -> Item:
        ids = golden[f"{name}_input_ids"][0].tolist() + (golden[more].tolist() if more else [])
        return Item(mel_TF, ids, [-100] * len(ids))

    items = {
        "gen": item("gen", "gen_tokens"),
        "chat": item("chat", "chat_tokens"),
        "bf16": replace(item("gen", "gen_bf16feats_tokens"), mel_TF=bf16(mel_TF)),
        "train": replace(item("train"), labels=golden["train_labels"][0].tolist()),
    }
    longest = max(len(one.ids) for one in items.values())
    batch = pack(list(items.values()), [[n] for n in range(len(items))], len(mel_TF) + 3, longest + 5)
    loss, z_NZD, len_N, x_BLD, logits_BLV = (out.asnumpy() for out in Parts(model)(*batch))
    out = {}
    for n, (name, one) in enumerate(items.items()):
        length = len(one.ids)
        out[name] = Sequence(
            np.array(one.ids), z_NZD[n, : len_N[n]], x_BLD[n, :length], logits_BLV[n, :length]
        )
    return out, float(loss)


@pytest.mark.parametrize("name", ["gen", "chat", "train"])
def test_input_embeddings(sequences, golden, name):
    ids_L, z_ZD, x_LD, _ = sequences[0][name]
    want_LD = golden[f"{name}_inputs_embeds"][0]
    assert off(z_ZD, golden["speech_embeds"][0]) <= MODULES
    x_LD, is_speech = x_LD[: len(want_LD)], ids_L[: len(want_LD)] == -1
    assert np.array_equal(x_LD[~is_speech], want_LD[~is_speech]), "text, speech begin and end are copied"
    assert off(x_LD[is_speech], want_LD[is_speech]) <= MODULES


PREFIX = {"gen": "gen", "chat": "chat", "bf16": "gen_bf16feats"}


@pytest.mark.parametrize("name", list(PREFIX))
def test_first_logits_and_greedy_tokens(sequences, golden, name):
    prefix = PREFIX[name]
    tokens, want_V = golden[f"{prefix}_tokens"], golden[f"{prefix}_first_logits"]
    logits_LV = sequences[0][name].logits_LV
    start = len(logits_LV) - len(tokens) - 1  # the last position of the prompt
    assert off(logits_LV[start], want_V) <= LOGITS
    for i, token in enumerate(tokens):
        # greedy with repetition penalty 1.05 over what was generated before (Keskar et al. 2019)
        scores_V = logits_LV[start + i].copy()
        seen = np.unique(tokens[:i])
        scores_V[seen] = np.where(scores_V[seen] < 0, scores_V[seen] * 1.05, scores_V[seen] / 1.05)
        second, first = np.sort(scores_V)[-2:]
        assert scores_V.argmax() == token, f"token {i}"
        assert abs((first - second) - golden[f"{prefix}_margins"][i]) <= LOGITS


def test_bf16_features(sequences, golden):
    assert off(sequences[0]["bf16"].z_ZD, golden["gen_bf16feats_speech_embeds"][0]) <= MODULES


def test_training_loss_and_logits(sequences, golden):
    out, loss = sequences
    logits_LV = out["train"].logits_LV
    assert abs(loss - float(golden["train_loss"])) <= LOSS
    assert off(logits_LV, golden["train_logits"][0]) <= LOGITS
    at = golden["train_label_logits_index"][:, 1]
    assert off(logits_LV[at], golden["train_label_logits"]) <= LOGITS
    top = logits_LV.max(-1)
    log_sum_L = top + np.log(np.exp(logits_LV - top[:, None]).sum(-1))
    assert off(log_sum_L, golden["train_logsumexp"][0]) <= LOGITS
    assert np.array_equal(logits_LV.argmax(-1), golden["train_argmax"][0])
