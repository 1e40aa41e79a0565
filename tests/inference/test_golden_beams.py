"""From the recording to the tokens that the published PyTorch code of OSUM gave: greedy and with 4 beams."""

import json

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.folder import load_folder, write_config
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.joined import prepare
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import Audio, Text, lay_out

SPEECH, TARGETS = 32, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj")
CONFIG = ModelConfig(
    encoder=EncoderConfig(d_model=48, n_layers=2, n_heads=4, d_ff=192),
    adapter=AdapterConfig(n_layers=4, n_heads=4, d_ff=160),
    decoder=DecoderConfig(
        vocab_size=640,
        d_model=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        d_ff=112,
        rope_theta=1e6,
        norm_eps=1e-6,
        o_bias=False,
        eos_id=597,
        max_positions=1024,
    ),
    lora=LoraConfig(rank=8, alpha=32.0, dropout=0.0, targets=TARGETS),
    speech_token_num=SPEECH,
)


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden/osum_qwen2"


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    """The published checkpoint, converted, its adapters merged."""
    folder = tmp_path_factory.mktemp("golden")
    write_config(folder, CONFIG)
    settings = Settings(config=str(folder / "config.json"))
    convert(golden / "model.pt", folder / "model", settings=settings, tokenizer=golden / "llm")
    return prepare(load_folder(folder / "model"))


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
