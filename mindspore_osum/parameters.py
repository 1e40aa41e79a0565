"""Loads tensors from files into the parameters of cells."""

from collections.abc import Mapping

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import Weights


def fill(params: Mapping, weights: Weights, mapped: bool = False) -> None:
    """Read the tensor of each name into its parameter, in the parameter's dtype.

    Parameters
    ----------
    params : name in the file -> Parameter. The caller checks which names there must be.
    mapped : if the dtype equals that of the file, use the memory-mapped file, which the first graph copies to
        its device; only for parameters that are not written.

    Raises
    ------
    UserError : a tensor has another shape than its parameter, or cannot be read.
    """
    from mindspore import Tensor

    for name, param in params.items():
        values = weights.read(name)
        if tuple(values.shape) != tuple(param.shape):
            shapes = f"{tuple(values.shape)}, where {tuple(param.shape)} is needed"
            raise UserError(f"{weights.where}: {name} has the shape {shapes}")
        value = Tensor.from_numpy(values if mapped else np.array(values))
        param.set_data(value if value.dtype == param.dtype else value.astype(param.dtype))
