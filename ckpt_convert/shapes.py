"""Sizes both ways: the tensors a configuration needs, and what of a configuration the tensors tell.

Notable choices
- Sizes come from the tensors; whether a bias, a norm or a head exists comes from the configuration, so that
  a tensor lost by an earlier conversion (openPangu's o_proj bias is a known victim) is missed, not excused.
- Head counts, rope_theta, eps, alpha and token ids are in no tensor: they come from a preset, a configuration
  or overrides, and a preset of another size is not silently trusted with them.
"""

import re

from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig
from mindspore_osum.systems.osum.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]


def expected_shapes(cfg: ModelConfig) -> Shapes:
    """Every parameter of the model `cfg` describes: name -> shape, in the order of its parts."""
    enc = cfg.encoder
    d = enc.d_model
    shapes = {
        **_affine("encoder.embed.conv.0", (d, enc.n_mels, 3)),
        **_affine("encoder.embed.conv.2", (d, d, 3)),
        **_stack("encoder", enc.n_layers, d, enc.d_ff, key_bias=False),
        **_adapter(cfg),
        "speech_token_embed.weight": (cfg.speech_token_num + 2, cfg.decoder.d_model),
        **_decoder(cfg),
    }
    return shapes


def _affine(module: str, shape: tuple[int, ...], bias: bool = True) -> Shapes:
    weight = {f"{module}.weight": shape}
    return weight | {f"{module}.bias": shape[:1]} if bias else weight


def _stack(prefix: str, layers: int, d: int, d_ff: int, key_bias: bool) -> Shapes:
    """Transformer layers and the norm after them, as encoder and adapter have them."""
    shapes: Shapes = {}
    for i in range(layers):
        layer = f"{prefix}.encoders.{i}"
        for name in ("q", "k", "v", "out"):
            shapes |= _affine(f"{layer}.self_attn.linear_{name}", (d, d), bias=name != "k" or key_bias)
        shapes |= _affine(f"{layer}.feed_forward.w_1", (d_ff, d))
        shapes |= _affine(f"{layer}.feed_forward.w_2", (d, d_ff))
        shapes |= _affine(f"{layer}.norm1", (d,)) | _affine(f"{layer}.norm2", (d,))
    return shapes | _affine(f"{prefix}.after_norm", (d,))


def _adapter(cfg: ModelConfig) -> Shapes:
    d, channels = cfg.encoder.d_model, cfg.adapter.conv_channels
    shapes: Shapes = {}
    if cfg.adapter.kind == "conv1d":
        for i in range(3):
            shapes |= _affine(f"adapter.conv.{i}", (d, d, 3))
    else:
        quarter = ((d + 1) // 2 + 1) // 2  # of the width, after two strides of 2
        shapes |= _affine("adapter.conv.0", (channels, 1, 3, 3))
        shapes |= _affine("adapter.conv.1", (channels, channels, 3, 3))
        shapes |= _affine("adapter.conv_out", (d, channels * quarter))
    shapes |= _affine("adapter.transformer.embed.0", (d, d)) | _affine("adapter.transformer.embed.1", (d,))
    shapes |= _stack("adapter.transformer", cfg.adapter.n_layers, d, cfg.adapter.d_ff, key_bias=True)
    return shapes | _affine("adapter.proj", (cfg.decoder.d_model, d))


def _decoder(cfg: ModelConfig) -> Shapes:
    dec, lora = cfg.decoder, cfg.lora
    q, kv, d = dec.n_heads * dec.head_dim, dec.n_kv_heads * dec.head_dim, dec.d_model
    shapes: Shapes = {"decoder.model.embed_tokens.weight": (dec.vocab_size, d)}
    for i in range(dec.n_layers):
        layer = f"decoder.model.layers.{i}"
        for module, (rows, columns), bias in (
            ("self_attn.q_proj", (q, d), dec.qkv_bias),
            ("self_attn.k_proj", (kv, d), dec.qkv_bias),
            ("self_attn.v_proj", (kv, d), dec.qkv_bias),
            ("self_attn.o_proj", (d, q), dec.o_bias),
            ("mlp.gate_proj", (dec.d_ff, d), False),
            ("mlp.up_proj", (dec.d_ff, d), False),
            ("mlp.down_proj", (d, dec.d_ff), False),
        ):
            shapes |= _affine(f"{layer}.{module}", (rows, columns), bias)
            if lora.rank and module.rpartition(".")[2] in lora.targets:
                shapes[f"{layer}.{module}.lora_A.weight"] = (lora.rank, columns)
                shapes[f"{layer}.{module}.lora_B.weight"] = (rows, lora.rank)
        if dec.qk_norm:
            shapes[f"{layer}.self_attn.q_norm.weight"] = (dec.head_dim,)
            shapes[f"{layer}.self_attn.k_norm.weight"] = (dec.head_dim,)
        shapes[f"{layer}.input_layernorm.weight"] = (d,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (d,)
    shapes["decoder.model.norm.weight"] = (d,)
    if not dec.tie_embeddings:
        shapes["decoder.lm_head.weight"] = (dec.vocab_size, d)
    return shapes


def adapted(name: str, cfg: ModelConfig) -> bool:
    """Whether parameter `name` belongs to a decoder module that has LoRA beside it."""
    module = re.sub(r"(\.lora_[AB])?\.(weight|bias)$", "", name)
    return cfg.lora.rank > 0 and name.startswith("decoder.") and module.rpartition(".")[2] in cfg.lora.targets


def infer(shapes: Shapes, base: ModelConfig, given: dict) -> tuple[dict, list[str]]:
    """What the tensors tell of a configuration.

    Parameters
    ----------
    shapes : our names -> shapes, of a whole model or of its encoder or decoder only.
    base : where head counts and alpha come from when `given` has none and the sizes they go with are equal.
    given : nested values the user or the source's own config.json states; they are not second-guessed.

    Returns
    -------
    The values the tensors settle, nested as in `ModelConfig`, and a line for each value that nobody tells.

    Raises
    ------
    UserError : a tensor that sizes are read from is missing or has a wrong rank.
    """
    out: dict = {}
    needs: list[str] = []
    if "encoder.embed.conv.0.weight" in shapes:
        out["encoder"] = _infer_encoder(shapes, base, given.get("encoder", {}), needs)
    if "adapter.proj.weight" in shapes:
        out["adapter"] = _infer_adapter(shapes, base, given.get("adapter", {}), needs)
    if "speech_token_embed.weight" in shapes:
        out["speech_token_num"] = shapes["speech_token_embed.weight"][0] - 2
    if "decoder.model.embed_tokens.weight" in shapes:
        out["decoder"] = _infer_decoder(shapes, base, given.get("decoder", {}), needs)
    out |= _infer_lora(shapes, base, given.get("lora", {}), needs)
    return out, needs


def _size(shapes: Shapes, name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) <= axis:
        raise UserError(
            f"tensor {name!r} is missing or has a wrong rank, so the model's sizes cannot be read"
        )
    return shape[axis]


def _layers(shapes: Shapes, prefix: str) -> int:
    numbers = [int(n[len(prefix) :].partition(".")[0]) for n in shapes if n.startswith(prefix)]
    return max(numbers, default=-1) + 1


def _infer_encoder(shapes: Shapes, base: ModelConfig, given: dict, needs: list[str]) -> dict:
    d = _size(shapes, "encoder.embed.conv.0.weight", 0)
    if "n_heads" not in given and d != base.encoder.d_model:
        needs.append(
            f"encoder.n_heads (width {d}, preset {base.encoder.d_model}; Whisper has a head for every 64)"
        )
    return {
        "d_model": d,
        "n_mels": _size(shapes, "encoder.embed.conv.0.weight", 1),
        "n_layers": _layers(shapes, "encoder.encoders."),
        "d_ff": _size(shapes, "encoder.encoders.0.feed_forward.w_1.weight", 0),
    }


def _infer_adapter(shapes: Shapes, base: ModelConfig, given: dict, needs: list[str]) -> dict:
    d = _size(shapes, "adapter.proj.weight", 1)
    if "n_heads" not in given and d != base.encoder.d_model:
        needs.append(
            f"adapter.n_heads (width {d}, preset {base.encoder.d_model}; the published adapter has 4)"
        )
    out = {
        "kind": "conv2d" if "adapter.conv_out.weight" in shapes else "conv1d",
        "n_layers": _layers(shapes, "adapter.transformer.encoders."),
        "d_ff": _size(shapes, "adapter.transformer.encoders.0.feed_forward.w_1.weight", 0),
    }
    if out["kind"] == "conv2d":
        out["conv_channels"] = _size(shapes, "adapter.conv.0.weight", 0)
    return out


def _infer_decoder(shapes: Shapes, base: ModelConfig, given: dict, needs: list[str]) -> dict:
    embed = "decoder.model.embed_tokens.weight"
    return {
        "vocab_size": _size(shapes, embed, 0),
        "d_model": _size(shapes, embed, 1),
        "n_layers": _layers(shapes, "decoder.model.layers."),
        "d_ff": _size(shapes, "decoder.model.layers.0.mlp.gate_proj.weight", 0),
        **_infer_heads(shapes, base.decoder, given, needs),
    }


def _infer_heads(shapes: Shapes, base: DecoderConfig, given: dict, needs: list[str]) -> dict:
    attention = "decoder.model.layers.0.self_attn"
    q = _size(shapes, f"{attention}.q_proj.weight", 0)
    kv = _size(shapes, f"{attention}.k_proj.weight", 0)
    e = given.get("head_dim")
    if f"{attention}.q_norm.weight" in shapes:
        e = _size(shapes, f"{attention}.q_norm.weight", 0)
    elif e is None and given.get("n_heads"):
        e = q // given["n_heads"]
    elif e is None and given.get("n_kv_heads"):
        e = kv // given["n_kv_heads"]
    elif e is None and (base.n_heads * base.head_dim, base.n_kv_heads * base.head_dim) == (q, kv):
        e = base.head_dim
    if not e or q % e or kv % e:
        needs.append(
            f"decoder.n_heads (q_proj has {q} rows, k_proj {kv}; head size {e or base.head_dim} does not fit)"
        )
        return {}
    return {"n_heads": q // e, "n_kv_heads": kv // e, "head_dim": e}


def _infer_lora(shapes: Shapes, base: ModelConfig, given: dict, needs: list[str]) -> dict:
    names = [n for n in shapes if n.endswith(".lora_A.weight")]
    if not names:
        # a whole model without adapters has them merged; a part says nothing about them
        return {"lora": {"rank": 0}} if "adapter.proj.weight" in shapes else {}
    rank = _size(shapes, names[0], 0)
    if rank != base.lora.rank and "alpha" not in given:
        needs.append(f"lora.alpha (rank {rank}, preset {base.lora.rank}; OSUM and OSUM-Pangu have alpha 32)")
    found = {n.split(".")[-3] for n in names}
    known = [t for t in base.lora.targets if t in found]
    return {"lora": {"rank": rank, "targets": [*known, *sorted(found - set(known))]}}
