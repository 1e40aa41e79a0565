"""Descriptions of a Whisper encoder <-> `EncoderConfig`: Hugging Face's `config.json`, openai's `dims`.

Features that our cells lack are refused by name, never ignored.
"""

from mindspore_osum.config import Reader
from mindspore_osum.models.whisper.config import EncoderConfig


def encoder_values(values: dict, where: str) -> dict:
    """`EncoderConfig` values of a Whisper config.json; a stock Whisper pads audio to 30 s."""
    read = Reader(values, where)
    read.refuse("activation_function", ("gelu",), "the encoder uses the exact GELU")
    read.refuse("scale_embedding", (False,), "the encoder does not scale its input")
    return {
        "n_mels": read.get("num_mel_bins", int, 80),
        "d_model": read.get("d_model", int),
        "n_layers": read.get("encoder_layers", int),
        "n_heads": read.get("encoder_attention_heads", int),
        "d_ff": read.get("encoder_ffn_dim", int),
        "pad_to_seconds": 30.0,
    }


def encoder_hf_config(enc: EncoderConfig) -> dict:
    """A config.json that makes transformers build this encoder (with an unused text decoder)."""
    return {
        "architectures": ["WhisperModel"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "num_mel_bins": enc.n_mels,
        "d_model": enc.d_model,
        "encoder_layers": enc.n_layers,
        "encoder_attention_heads": enc.n_heads,
        "encoder_ffn_dim": enc.d_ff,
        "decoder_layers": 1,
        "decoder_attention_heads": enc.n_heads,
    }


def openai_values(dims: dict, where: str) -> dict:
    """`EncoderConfig` values of openai-whisper's `dims`."""
    read = Reader(dims, where)
    return {
        "n_mels": read.get("n_mels", int),
        "d_model": read.get("n_audio_state", int),
        "n_layers": read.get("n_audio_layer", int),
        "n_heads": read.get("n_audio_head", int),
        "pad_to_seconds": 30.0,
    }
