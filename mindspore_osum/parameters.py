"""Tensors from files into the parameters of cells: the one place where that is done."""

from collections.abc import Mapping

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import Weights


def fill(params: Mapping, weights: Weights, mapped: bool = False) -> None:
    """Read the tensor of each name into its parameter, in the parameter's type.

    Parameters
    ----------
    params : name in the file -> Parameter. Which names there must be is the caller's business.
    mapped : where the type is that of the file, take the file's mapping itself, which the first graph copies
        to its device; for parameters that are only read.

    Raises
    ------
    UserError : a tensor of another shape than its parameter, or one that cannot be read.
    """
    from mindspore import Tensor

    for name, param in params.items():
        values = weights.read(name)
        if tuple(values.shape) != tuple(param.shape):
            shapes = f"{tuple(values.shape)}, where {tuple(param.shape)} is needed"
            raise UserError(f"{weights.where}: {name} has the shape {shapes}")
        value = Tensor.from_numpy(values if mapped else np.array(values))
        param.set_data(value if value.dtype == param.dtype else value.astype(param.dtype))
