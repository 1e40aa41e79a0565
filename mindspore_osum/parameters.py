"""Loads tensors from files into the parameters of cells."""

from collections.abc import Callable, Mapping

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import Weights, check_finite, encode, info_of


def fill(
    params: Mapping,
    weights: Weights,
    mapped: bool = False,
    waiting: Callable[[str, int, int], None] | None = None,
) -> None:
    """Read the tensor of each name into its parameter, in the parameter's dtype.

    Parameters
    ----------
    params : name in the file -> Parameter. The caller checks which names there must be.
    mapped : if the dtype equals that of the file, use the memory-mapped file, which the first graph copies to
        its device; only for parameters that are not written.
    waiting : called with "weights", the bytes that are read, and all.

    Raises
    ------
    UserError : a tensor has another shape than its parameter, cannot be read, or holds an infinity or NaN,
        in the file or after rounding to float16.
    """
    done, total = 0, sum(weights.infos[name].nbytes for name in params)
    for name, param in params.items():
        if waiting:
            waiting("weights", done, total)
        done += weights.infos[name].nbytes
        values = weights.read(name)
        if tuple(values.shape) != tuple(param.shape):
            shapes = f"{tuple(values.shape)}, where {tuple(param.shape)} is needed"
            raise UserError(f"{weights.where}: {name} has the shape {shapes}")
        set_values(param, values, f"{weights.where}: tensor {name}", mapped)


def set_values(param, values: np.ndarray, where: str, mapped: bool = False) -> None:
    """Set a parameter to values of its shape; arguments and errors as of `fill`."""
    from mindspore import Tensor, float16

    code = info_of(values).dtype
    check_finite(np.ascontiguousarray(values).reshape(-1).view(np.uint8), code, where)
    if param.dtype == float16 and code in ("F32", "F64"):
        with np.errstate(over="ignore"):
            rounded = encode(values, "F16")
        check_finite(rounded, "F16", f"{where} in float16")
    value = Tensor.from_numpy(values if mapped else np.array(values))
    param.set_data(value if value.dtype == param.dtype else value.astype(param.dtype))
