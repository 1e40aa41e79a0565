"""What the inference tests share: a tiny model, random weights and prompts for it."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import Audio, Text, lay_out

SMALL = ModelConfig(
    encoder=EncoderConfig(d_model=32, n_layers=1, n_heads=2, d_ff=48),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=40),
    decoder=DecoderConfig(
        vocab_size=512,
        d_model=48,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=12,
        d_ff=80,
        rope_theta=1e4,
        max_positions=512,
        eos_id=4,
    ),
    lora=LoraConfig(rank=2, alpha=4.0, dropout=0.0),
    speech_token_num=3,
    prompts="compact",
)


def fill(model, seed: int) -> dict[str, np.ndarray]:
    """Random weights with scores some units apart, so that rounding never decides."""
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


def small_folder(folder, model=None):
    """`folder` as a model folder: SMALL with random weights, and a tokenizer of its vocabulary size."""
    from mindspore_osum.folder import save_folder
    from mindspore_osum.systems.osum.network import OsumModel

    if model is None:
        model = OsumModel(SMALL)
        fill(model, seed=5)
    path = folder.with_name("trained.model")
    path.write_bytes(train_tokenizer(pieces=512))
    save_folder(folder, model, path)
    return folder


def random_prompt(cfg: ModelConfig, rng, text: int, frames: int = 0) -> Prompt:
    """`text` random tokens, with the recording of so many random mel frames in their midst."""
    before, after = np.split(rng.integers(5, cfg.decoder.vocab_size, text), [text // 2])
    speech = [Audio(cfg.tokens(frames))] if frames else []
    sequence = lay_out(None, [Text(before), *speech, Text(after)])
    mel_TF = rng.standard_normal((frames, cfg.encoder.n_mels), np.float32) if frames else None
    return Prompt(sequence, mel_TF)


def train_tokenizer(pieces: int) -> bytes:
    """A small SentencePiece model of the openPangu kind, filled up with symbols that no text has."""
    import sentencepiece as spm

    sentences = [
        "please transcribe the recording and tell me the age of the speaker",
        "你能听这段语音然后告诉我内容吗",
        "<asr><age>hello world<ADULT>",
        "turn on the light in the kitchen",
    ]
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 4),
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        user_defined_symbols=["[unused9]", "[unused10]", *(f"[filler{i}]" for i in range(pieces - 398))],
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return model.getvalue()


def on_a_terminal(*args: str) -> str:
    """What a person sees of `osum ARGS`, in the current folder, with answers of at most 4 tokens."""
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # rows, columns
    command = [sys.executable, "-m", "mindspore_osum", *args, "--max-new-tokens", "4"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    seen = b""
    try:
        while block := os.read(person, 4096):
            seen += block
    except OSError:  # Linux ends a terminal that nobody holds any more so
        pass
    assert process.wait(timeout=60) == 0
    return seen.decode("utf-8").replace("\r\n", "\n")
