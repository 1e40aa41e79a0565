"""Device-specific operators; the model code above them is the same for all devices.

common.py and gelu.py are for every device. plain.py (elementary operators, for CPU) and fused.py (Ascend's
fused operators) define the same cells; both write the cache in place. carried.py is plain.py with the cache
as input and output of a graph, for export:

    AttentionMask()   converts a bool mask (True = hidden, None = causal) for Attention
    Attention(n_heads, n_kv_heads, head_dim, causal)    without a cache; `cached` with one
    Cache(batch, places, n_kv_heads, head_dim)    memory layout of the cache, and the mask of a new token
    RMSNorm(d, eps), LayerNorm(d, eps), Rotary(), SwiGLU()

Each has `shard`, which shards it over devices (models/sharding.py).

A model takes its cells from `cells(dtype)` when it is built. `use` selects the operators of models built
later.
"""

import os
from types import ModuleType, SimpleNamespace

import mindspore as ms

from mindspore_osum.errors import UserError
from mindspore_osum.models.ops import plain
from mindspore_osum.models.ops.common import (
    RotaryTables,
    SegmentCausalMask,
    causal_mask,
    frame_places,
    frame_positions,
    halved,
    inverse_frequencies,
    key_mask,
    length_mask,
    log_sum_exp,
    matmul_t,
    segment_causal_mask,
    whole,
)
from mindspore_osum.models.ops.gelu import Gelu
from mindspore_osum.models.ops.plain import MASKED
from mindspore_osum.models.target import target

__all__ = [
    "Gelu",
    "MASKED",
    "RotaryTables",
    "SegmentCausalMask",
    "causal_mask",
    "cells",
    "elementary",
    "frame_places",
    "frame_positions",
    "halved",
    "inverse_frequencies",
    "key_mask",
    "length_mask",
    "log_sum_exp",
    "matmul_t",
    "segment_causal_mask",
    "use",
    "whole",
]

PATHS = ("auto", "fused", "plain")  # of OSUM_OPS
_path = None  # None: $OSUM_OPS, or auto


def use(path: str | None) -> None:
    """Select the operators of models built from now on.

    Parameters
    ----------
    path : "fused", "plain", or "auto" for fused on Ascend in the 16-bit types that its operators are
        documented for, else plain; "carried" for models that are exported; None for the value of the
        environment variable OSUM_OPS, else auto.

    Raises
    ------
    UserError : an unknown value.
    """
    global _path
    _path = _known(path, "ops.use", (*PATHS, "carried")) if path is not None else None


def elementary() -> ModuleType | SimpleNamespace:
    """The cells of elementary operators: for attention whose scores no fused operator computes."""
    if _path != "carried":  # which OSUM_OPS cannot be
        return plain
    from mindspore_osum.models.ops import carried

    return carried.CELLS


def cells(dtype) -> ModuleType | SimpleNamespace:
    """The cells above for a model of this type."""
    path = _path or _known(os.environ.get("OSUM_OPS") or "auto", "OSUM_OPS")
    if path == "auto":
        on_ascend = target() == "Ascend"
        path = "fused" if on_ascend and dtype in (ms.float16, ms.bfloat16) else "plain"
    if path in ("plain", "carried"):
        return elementary()
    from mindspore_osum.models.ops import fused

    return fused.CELLS_FLOAT32 if dtype == ms.float32 else fused.CELLS


def _known(path: str, where: str, known: tuple[str, ...] = PATHS) -> str:
    if path not in known:
        raise UserError(f"{where}: {path!r} is unknown; known: {', '.join(known)}")
    return path
