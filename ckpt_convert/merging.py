"""LoRA and DoRA merged into the weight that they adapt, in blocks of rows."""

from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import TensorInfo, Weights, check_finite, decode, encode

_BLOCK = 1 << 21  # elements of a weight per block: 16 MB in float64

Tensor = tuple[Weights, str]  # where it is, and its key there


@dataclass(frozen=True)
class Update:
    """What adapters do to a weight W: W + scale * B @ A, with DoRA each row then scaled to its magnitude."""

    a: Tensor  # (rank, columns)
    b: Tensor  # (rows, rank)
    scale: float
    magnitude: Tensor | None = None  # (rows,)


def merged(weight: Tensor, update: Update) -> np.ndarray:
    """Bytes of the merged weight, computed in float64 and rounded once to its own type.

    LoRA: Hu et al. 2022, section 4.1. DoRA: Liu et al. 2024, equation 5, with the norm of each row.

    Raises
    ------
    UserError : the weight or its adapters hold NaN or infinities, or the sum does not fit the weight's type;
        the tensor is named.
    """
    weights, name = weight
    info, raw = weights.infos[name], finite_bytes(weight)
    low, high = _read(update.a), _read(update.b)
    sizes = None if update.magnitude is None else _read(update.magnitude).reshape(-1)
    rows, columns = info.shape
    if high.shape[0] != rows or low.shape[1] != columns or (sizes is not None and sizes.shape != (rows,)):
        raise UserError(
            f"{weights.where}: tensor {name} of the shape {info.shape} has adapters of the shapes "
            f"{high.shape} and {low.shape}"
        )
    out = np.empty(info.nbytes, np.uint8)
    row_bytes, step = info.nbytes // rows, max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        span = slice(start * row_bytes, stop * row_bytes)
        w = decode(raw[span], TensorInfo(info.dtype, (stop - start, columns)))
        block = w + update.scale * (high[start:stop].astype(np.float64) @ low)
        if sizes is not None:
            norms = np.linalg.norm(block, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros: told below
                block *= (sizes[start:stop] / norms)[:, None]
        out[span] = _rounded(block, info.dtype, f"{weights.where}: tensor {name}")
    return out


def finite_bytes(tensor: Tensor) -> np.ndarray:
    """The tensor's bytes; UserError if it holds NaN or infinities."""
    weights, key = tensor
    return check_finite(weights.raw(key), weights.infos[key].dtype, f"{weights.where}: tensor {key}")


def _read(tensor: Tensor) -> np.ndarray:
    return decode(finite_bytes(tensor), tensor[0].infos[tensor[1]]).astype(np.float64)


def _rounded(block: np.ndarray, dtype: str, name: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        raw = encode(block, dtype)
    try:
        return check_finite(raw, dtype, name)
    except UserError:
        largest = np.abs(block).max()
        raise UserError(
            f"{name}: with its adapters merged it reaches {largest:.4g}, which {dtype} cannot hold; leave "
            "them beside the weights, or convert weights of a wider type"
        ) from None
