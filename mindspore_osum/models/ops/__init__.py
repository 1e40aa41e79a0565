"""The operators whose best form depends on the device, in one place; everything above is the same code.

common.py and gelu.py are for every device. plain.py and fused.py hold the same cells, one set from elementary
operators for CPU, one from Ascend's fused operators; both write the cache in place. carried.py is plain.py
with a cache that goes in and out of a graph, for export:

    AttentionMask()   gives what Attention takes for a bool mask, True = hidden; None = causal
    Attention(n_heads, n_kv_heads, head_dim, causal)    without cache, and `cached` with one
    Cache(batch, places, n_kv_heads, head_dim)    how it lies in memory, and what a new token sees of it
    RMSNorm(d, eps), LayerNorm(d, eps), Rotary(), SwiGLU()

Each has `shard`, which cuts it over devices (models/sharding.py).

A model takes its cells from `cells(dtype)` when it is built. `use` chooses for the models built after it.
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

__all__ = [
    "Gelu",
    "MASKED",
    "RotaryTables",
    "SegmentCausalMask",
    "causal_mask",
    "cells",
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
    """Choose the operators of models built from now on.

    Parameters
    ----------
    path : "fused", "plain", or "auto" for fused on Ascend in the 16-bit types that its operators are
        documented for, else plain; "carried" for models that are exported; None for what the environment
        variable OSUM_OPS says, else auto.

    Raises
    ------
    UserError : another word.
    """
    global _path
    _path = _known(path, "ops.use", (*PATHS, "carried")) if path is not None else None


def cells(dtype) -> ModuleType | SimpleNamespace:
    """The cells above for a model of this type."""
    path = _path or _known(os.environ.get("OSUM_OPS") or "auto", "OSUM_OPS")
    if path == "auto":
        on_ascend = ms.get_context("device_target") == "Ascend"
        path = "fused" if on_ascend and dtype in (ms.float16, ms.bfloat16) else "plain"
    if path == "plain":
        return plain
    if path == "carried":
        from mindspore_osum.models.ops import carried

        return carried.CELLS
    from mindspore_osum.models.ops import fused

    return fused.CELLS_FLOAT32 if dtype == ms.float32 else fused.CELLS


def _known(path: str, where: str, known: tuple[str, ...] = PATHS) -> str:
    if path not in known:
        raise UserError(f"{where}: {path!r} is unknown; known: {', '.join(known)}")
    return path
