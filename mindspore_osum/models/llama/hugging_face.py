"""A decoder's `config.json` of Hugging Face <-> `DecoderConfig`.

Features that our cells lack (scaled rotary positions, other activations, MLP biases, sliding windows) are
refused by name, never ignored. Defaults are those of transformers for the model type.
"""

from mindspore_osum.config import Reader
from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig

# model_type -> (biases of q/k/v, bias of o, norms on q and k); None = as the file's attention_bias or bias
ATTENTION = {
    "PanguEmbedded": (None, None, False),
    "llama": (None, None, False),
    "mistral": (False, False, False),
    "qwen2": (True, False, False),
    "qwen3": (None, None, True),
}


def decoder_values(values: dict, where: str) -> dict:
    """`DecoderConfig` values of a Llama-shaped model's config.json."""
    kind = values.get("model_type")
    if kind not in ATTENTION:
        known = ", ".join(ATTENTION)
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
    qkv, o, qk_norm = ATTENTION[kind]
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
    if values.get("bos_token_id") is not None:
        out["bos_id"] = read.get("bos_token_id", int)
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
    biases = {"attention_bias": dec.qkv_bias}
    return {"architectures": [architecture], "model_type": kind, **decoder_sizes(dec, biases)}


def decoder_sizes(dec: DecoderConfig, biases: dict) -> dict:
    """What every config.json of such a decoder says; `biases` are the settings that have other names."""
    return {
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
        **biases,
        "tie_word_embeddings": dec.tie_embeddings,
        "max_position_embeddings": dec.max_positions,
        "bos_token_id": dec.bos_id,
        "eos_token_id": dec.eos_id,
        "pad_token_id": 0,  # as in openPangu: transformers pads finished rows with it
    }
