"""Hugging Face `config.json` <-> our configuration, for decoders and for Whisper's encoder.

What our cells do not compute (scaled rotary positions, other activations, MLP biases, sliding windows) is
refused by name, never ignored. Defaults are those of transformers for the model type.
"""

from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG
from mindspore_osum.models.llama.config import DecoderConfig
from mindspore_osum.models.whisper.config import EncoderConfig

# model_type -> (biases of q/k/v, bias of o, norms on q and k); None = the file's attention_bias or bias says
_ATTENTION = {
    "PanguEmbedded": (None, None, False),
    "llama": (None, None, False),
    "mistral": (False, False, False),
    "qwen2": (True, False, False),
    "qwen3": (None, None, True),
}


def read_hf_config(folder: Path) -> dict:
    """The folder's config.json as it is; UserError if there is none or it is not a mapping."""
    return read_json(folder / CONFIG, "a model description")


class Reader:
    """Typed look-ups in a config.json, with the key in the error."""

    def __init__(self, values: dict, where: str):
        self.values, self.where = values, where

    def get(self, key: str, kind, default=None):
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise UserError(f"{self.where}: key {key!r} is missing")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{self.where}: {key} should be of type {kind.__name__}, not {str(value)[:40]!r}")
        return value

    def refuse(self, key: str, ok: tuple, why: str) -> None:
        value = self.values.get(key)
        if value is not None and value not in ok:
            raise UserError(f"{self.where}: {key} = {str(value)[:60]!r} is not supported: {why}")


def decoder_values(values: dict, where: str) -> dict:
    """`DecoderConfig` values of a Llama-shaped model's config.json."""
    kind = values.get("model_type")
    if kind not in _ATTENTION:
        known = ", ".join(_ATTENTION)
        raise UserError(f"{where}: decoder of model_type {str(kind)[:40]!r} is not supported; known: {known}")
    read = Reader(values, where)
    rope = read.get("rope_parameters", dict, {}) or read.get("rope_scaling", dict, {})
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise UserError(f"{where}: rotary positions of type {str(rope_type)[:40]!r} are not supported")
    read.refuse("hidden_act", ("silu",), "the decoder's MLP is SwiGLU")
    read.refuse("mlp_bias", (False,), "the decoder's MLP has no biases")
    read.refuse("use_sliding_window", (False,), "attention is over the whole context")
    if kind == "mistral":
        read.refuse("sliding_window", (), "attention is over the whole context")
    qkv, o, qk_norm = _ATTENTION[kind]
    is_pangu = kind == "PanguEmbedded"
    stated = read.get("bias" if is_pangu else "attention_bias", bool, is_pangu)
    heads = read.get("num_attention_heads", int)
    d = read.get("hidden_size", int)
    eos = values.get("eos_token_id")
    out = {
        "vocab_size": read.get("vocab_size", int),
        "d_model": d,
        "n_layers": read.get("num_hidden_layers", int),
        "n_heads": heads,
        "n_kv_heads": read.get("num_key_value_heads", int, heads),
        "head_dim": read.get("head_dim", int, 128 if kind == "qwen3" else d // max(heads, 1)),
        "d_ff": read.get("intermediate_size", int),
        "rope_theta": Reader(values | rope, where).get("rope_theta", float, 10000.0),
        "norm_eps": read.get("rms_norm_eps", float, 1e-6),
        "qkv_bias": stated if qkv is None else qkv,
        "o_bias": stated if o is None else o,
        "qk_norm": qk_norm,
        "tie_embeddings": read.get("tie_word_embeddings", bool, False),
        "max_positions": read.get("max_position_embeddings", int, 2048),
        "eos_id": eos[0] if isinstance(eos, list) and eos else eos,
    }
    for ours, theirs in (("bos_id", "bos_token_id"), ("pad_id", "pad_token_id")):
        if values.get(theirs) is not None:
            out[ours] = read.get(theirs, int)
    if type(out["eos_id"]) is not int:
        raise UserError(f"{where}: eos_token_id is missing or not a number")
    return out


def decoder_hf_config(dec: DecoderConfig) -> dict:
    """A config.json that makes transformers build this decoder."""
    if dec.qk_norm and dec.qkv_bias != dec.o_bias:
        raise UserError(
            "a decoder with q/k norms and biases on only some projections has no Hugging Face form"
        )
    kind = "qwen3" if dec.qk_norm else "qwen2" if dec.qkv_bias and not dec.o_bias else "llama"
    if dec.o_bias and not dec.qkv_bias:
        raise UserError("a decoder with a bias on o_proj alone has no Hugging Face form")
    if kind == "qwen2" and dec.n_heads * dec.head_dim != dec.d_model:
        raise UserError("a Qwen2 decoder needs n_heads * head_dim = d_model")
    architecture = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[
        kind
    ]
    return {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_act": "silu",
        "vocab_size": dec.vocab_size,
        "hidden_size": dec.d_model,
        "num_hidden_layers": dec.n_layers,
        "num_attention_heads": dec.n_heads,
        "num_key_value_heads": dec.n_kv_heads,
        "head_dim": dec.head_dim,
        "intermediate_size": dec.d_ff,
        "rope_theta": dec.rope_theta,
        "rms_norm_eps": dec.norm_eps,
        "attention_bias": dec.qkv_bias,
        "tie_word_embeddings": dec.tie_embeddings,
        "max_position_embeddings": dec.max_positions,
        "bos_token_id": dec.bos_id,
        "eos_token_id": dec.eos_id,
        "pad_token_id": dec.pad_id,
    }


def encoder_values(values: dict, where: str) -> dict:
    """`EncoderConfig` values of a Whisper config.json; a stock Whisper hears windows of 30 s."""
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
    """A config.json that makes transformers build this encoder (with a text decoder of no meaning)."""
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
