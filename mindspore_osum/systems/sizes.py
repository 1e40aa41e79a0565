"""Sizes of encoder, decoder and LoRA that can be built, whatever system they are of; loads no MindSpore."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import PROJECTIONS

# Settings that the shapes of the weights do not show, or show of weights that are small: with more than these
# a small file takes all memory or time. Published models have at most what the comments say.
MOST = {
    "encoder.n_mels": 256,  # 128
    "encoder.n_layers": 256,  # 32
    "encoder.n_heads": 32,  # 20; each has a table of all pairs of frames
    "encoder.norm_eps": 1,  # 1e-5; more leaves nothing of what is normalised
    "decoder.n_layers": 256,  # 126
    "decoder.n_heads": 512,  # 128
    "decoder.norm_eps": 1,
    "decoder.rope_theta": 1e12,  # 1e8
    "decoder.max_positions": 2**24,  # 10,485,760; float32 counts no further
    "lora.rank": 16_384,  # 1,024
    "lora.alpha": 1e6,  # 2,048
}
WIDEST = {"d_ff": 128, "heads": 8}  # times d_model: published 8 and 2, small models of tests 71


def need(ok: bool, what: str) -> None:
    """Refuse a model that is not ok, saying what is wrong with it."""
    if not ok:
        raise UserError(f"model config: {what}")


def check_sizes(cfg: Any, most: Mapping[str, float] = MOST) -> None:
    """Refuse an encoder, adapter, decoder and LoRA that cannot be built, naming the key.

    Parameters
    ----------
    cfg : with these sections, `features`, `most_frames` and `dtype`.
    most : largest value of settings.

    Raises
    ------
    UserError : one line.
    """
    for name in ("encoder", "adapter", "decoder"):
        for key, value in vars(getattr(cfg, name)).items():
            if isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_id"):
                need(0 < value < 2**31, f"{name}.{key} must be positive and below 2^31, not {value}")
    for name, limit in most.items():
        value = attrgetter(name)(cfg)
        need(value <= limit, f"{name} must be at most {limit:g}, not {value}")
    _check_encoder(cfg)
    _check_decoder(cfg.decoder)
    _check_lora(cfg.lora)
    need(
        cfg.dtype in ("float32", "bfloat16", "float16"),
        f"dtype must be float32, bfloat16 or float16, not {cfg.dtype!r}",
    )


def check_width(name: str, value: int, d_model: int, kind: str = "d_ff") -> None:
    """Refuse an inner width that is too many times the width."""
    most = WIDEST[kind]
    need(value <= most * d_model, f"{name} must be at most {most} times d_model {d_model}, not {value}")


def check_rates(name: str, part: Any) -> None:
    """Refuse a dropout or an eps of the norms that is out of range."""
    if hasattr(part, "dropout"):
        need(0 <= part.dropout < 1, f"{name}.dropout must be 0 or more and below 1, not {part.dropout}")
    if hasattr(part, "norm_eps"):
        need(part.norm_eps >= 0, f"{name}.norm_eps must be 0 or more, not {part.norm_eps}")


def _check_encoder(cfg: Any) -> None:
    enc, most = cfg.encoder, cfg.features.seconds(cfg.most_frames)
    check_width("encoder.d_ff", enc.d_ff, enc.d_model)
    need(
        enc.d_model % enc.n_heads == 0,
        f"encoder.d_model {enc.d_model} must be divisible by n_heads {enc.n_heads}",
    )
    need(enc.d_model % 2 == 0, f"encoder.d_model {enc.d_model} must be even (sinusoids)")
    need(
        0 <= enc.pad_to_seconds <= most,
        f"encoder.pad_to_seconds must be 0 to {most:g}, not {enc.pad_to_seconds}",
    )
    check_rates("encoder", enc)


def _check_decoder(dec: Any) -> None:
    check_width("decoder.d_ff", dec.d_ff, dec.d_model)
    check_width("decoder.n_heads * head_dim", dec.n_heads * dec.head_dim, dec.d_model, "heads")
    need(
        dec.n_heads % dec.n_kv_heads == 0,
        f"decoder.n_heads {dec.n_heads} must be divisible by n_kv_heads {dec.n_kv_heads}",
    )
    need(dec.head_dim % 2 == 0, f"decoder.head_dim {dec.head_dim} must be even (rotary)")
    check_rates("decoder", dec)
    need(dec.rope_theta >= 1, f"decoder.rope_theta must be 1 or more, not {dec.rope_theta}")


def _check_lora(lora: Any) -> None:
    need(lora.rank >= 0, f"lora.rank must be 0 or more, not {lora.rank}")
    check_rates("lora", lora)
    need(lora.alpha >= 0, f"lora.alpha must be 0 or more, not {lora.alpha}")
    need(len(lora.targets) <= len(PROJECTIONS), f"lora.targets has {len(lora.targets)} names")
    unknown = sorted(set(lora.targets) - set(PROJECTIONS))
    need(not unknown, f"lora.targets {unknown} unknown; known: {sorted(PROJECTIONS)}")
