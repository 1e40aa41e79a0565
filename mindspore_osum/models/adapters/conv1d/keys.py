"""Names and shapes of this kind's own parameters; does not import MindSpore."""

from mindspore_osum.models.table import Row, Values, affine

ROWS = tuple(
    Row(f"conv.{i}", {"published": f"down_sample_2.conv.{theirs}"}, affine("d_model", "d_model", 3))
    for i, theirs in enumerate((1, 4, 7))  # the published list also holds padding and GELU
)


def values(d: int) -> Values:
    """Values of the names in `ROWS` that are not settings; `d` is the encoder's width."""
    return {}
