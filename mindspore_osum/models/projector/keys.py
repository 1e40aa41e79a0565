"""Names and shapes of the projector's parameters, which are WEST's; does not import MindSpore."""

from mindspore_osum.models.projector.config import ProjectorConfig
from mindspore_osum.models.table import Row, Shapes, Values, affine, axis_of

ROWS = tuple(
    Row(name, {"published": name}, params)
    for name, params in (
        ("conv1d", affine("d_model", "d_model", "stride")),
        ("linear1", affine("d_hidden", "d_model")),
        ("linear2", affine("d_out", "d_hidden")),
    )
)


def values(cfg: ProjectorConfig, d_in: int, d_out: int) -> Values:
    """Values of the names in `ROWS`, for encoder frames of width `d_in` and a decoder of width `d_out`."""
    return vars(cfg) | {"d_model": d_in, "d_out": d_out}


def infer(found: Shapes, prefix: str) -> dict:
    """`ProjectorConfig` values from tensors; empty if there is no projector in `found`."""
    if f"{prefix}conv1d.weight" not in found:
        return {}
    return {
        "stride": axis_of(found, f"{prefix}conv1d.weight", 2),
        "d_hidden": axis_of(found, f"{prefix}linear1.weight", 0),
    }
