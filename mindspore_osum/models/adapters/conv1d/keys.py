"""Names and shapes of this kind's own parameters; loads nothing heavy."""

from mindspore_osum.models.table import Row, Values, affine

ROWS = tuple(
    Row(f"conv.{i}", {"published": f"down_sample_2.conv.{theirs}"}, affine("d_model", "d_model", 3))
    for i, theirs in enumerate((1, 4, 7))  # padding and GELU are in the published list too
)


def values(d: int) -> Values:
    """What names in `ROWS` stand for that are no settings; `d` is the encoder's width."""
    return {}
