"""A tiny model with random weights, prompts for it, and the same model as a folder."""

import io

import numpy as np
import pytest

from mindspore_osum.config import AdapterConfig, DecoderConfig, EncoderConfig, LoraConfig, ModelConfig
from mindspore_osum.inference.generate import Prompt
from mindspore_osum.text.sequence import IGNORE, HybridSequence

SMALL = ModelConfig(
    encoder=EncoderConfig(d_model=32, n_layers=1, n_heads=2, d_ff=48),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=40),
    decoder=DecoderConfig(
        vocab_size=512, d_model=48, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=12, d_ff=80,
        rope_theta=1e4, max_positions=512, eos_id=4,
    ),
    lora=LoraConfig(rank=2, alpha=4.0, dropout=0.0),
    speech_token_num=3,
    prompts="compact",
)  # fmt: skip


def fill(model, seed: int) -> dict[str, np.ndarray]:
    """Random weights with scores some units apart, so that the best token is never a matter of rounding."""
    from mindspore import Tensor

    rng, values = np.random.default_rng(seed), {}
    for name, param in model.parameters_and_names():
        draw = rng.standard_normal(param.shape, np.float32)
        if len(param.shape) == 1:
            draw = 0.3 * draw + (1 if name.endswith("weight") else 0)
        elif "embed" in name.rsplit(".", 2)[-2]:
            pass
        else:
            draw *= 1.5 * np.prod(param.shape[1:]) ** -0.5
        values[name] = draw.astype(np.float32)
        param.set_data(Tensor(values[name]))
    return values


def random_prompt(cfg: ModelConfig, rng, text: int, frames: int = 0) -> Prompt:
    """`text` random tokens, with the recording of so many random mel frames in their midst."""
    ids = rng.integers(5, cfg.decoder.vocab_size, text).tolist()
    if frames:
        ids[text // 2 : text // 2] = [-2] + [-1] * -(-frames // 8) + [-3]
    ids_L = np.array(ids, np.int32)
    places_L = np.arange(len(ids), dtype=np.int32)
    sequence = HybridSequence(ids_L, np.full_like(ids_L, IGNORE), places_L, np.ones_like(ids_L))
    mel_TF = rng.standard_normal((frames, cfg.encoder.n_mels), np.float32) if frames else None
    return Prompt(sequence, mel_TF)


@pytest.fixture(scope="session")
def model():
    """SMALL with random weights."""
    from mindspore_osum.models.osum import OsumModel

    model = OsumModel(SMALL)
    fill(model, seed=5)
    return model


@pytest.fixture(scope="session")
def generator(model):
    """One generator for all tests, so that each shape compiles once."""
    from mindspore_osum.inference.generate import Generator

    return Generator(model)


@pytest.fixture
def prompt():
    """prompt(seed, text, frames=0) -> a random prompt for SMALL."""
    return lambda seed, text, frames=0: random_prompt(SMALL, np.random.default_rng(seed), text, frames)


@pytest.fixture(scope="session")
def model_folder(model, tmp_path_factory):
    """`model` on disk with a tokenizer of its vocabulary size."""
    import sentencepiece as spm

    from mindspore_osum.folder import save_folder

    sentences = ["please transcribe the recording and tell me the age of the speaker", "你能听这段语音然后告诉我内容吗",
                 "<asr><age>hello world<ADULT>", "turn on the light in the kitchen", "今天天气怎么样"]
    tokenizer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 4), model_writer=tokenizer, model_type="bpe", vocab_size=512,
        user_defined_symbols=["[unused9]", "[unused10]"], byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    path = folder / "trained.model"
    path.write_bytes(tokenizer.getvalue())
    save_folder(folder / "tiny", model, path)
    return folder / "tiny"
