"""Names and shapes of the aligner's parameters; does not import MindSpore.

No code of the paper is published: a file of the aligner alone has the names of PyTorch's `nn.Linear`.
"""

from mindspore_osum.models.aligner.config import AlignerConfig
from mindspore_osum.models.forms import Form
from mindspore_osum.models.table import Row, Shapes, Values, affine, axis_of

ROWS = (Row("proj", {"linear_aligner": "", "aligner": ""}, affine("dims", "d_in")),)
FILE = Form("aligner", "aligner alone", {"adapter": ""}, "adapter", marks=("weight",))


def values(cfg: AlignerConfig, d_in: int, d_out: int) -> Values:
    """Values of the names in `ROWS`."""
    return {"d_in": d_in, "dims": d_out if cfg.dims is None else cfg.dims}


def infer(found: Shapes, prefix: str, d_out: int) -> dict:
    """Infer `AlignerConfig` values from tensors; empty if there is no aligner in `found`.

    Parameters
    ----------
    d_out : width of the decoder.
    """
    weight = f"{prefix}proj.weight"
    if weight not in found:
        return {}
    dims = axis_of(found, weight, 0)
    return {"dims": None if dims == d_out else dims}
