"""Names and shapes of this kind's own parameters, which no published checkpoint has.

Does not import MindSpore.
"""

from mindspore_osum.models.adapters.conv2d.config import STRIDES
from mindspore_osum.models.table import Row, Values, affine

ROWS = (
    Row("conv.0", {}, affine("conv_channels", 1, 3, 3)),
    Row("conv.1", {}, affine("conv_channels", "conv_channels", 3, 3)),
    Row("conv_out", {}, affine("d_model", "conv_channels*width_left")),
)


def values(d: int) -> Values:
    """Values of the names in `ROWS` that are not settings; `d` is the encoder's width."""
    for stride in STRIDES:
        d = -(-d // stride)
    return {"width_left": d}
