"""Named columns of a batch: what an extractor says of each utterance, stacked to arrays of static shape.

Notable choices
- A column is declared once, by the extractor, with the form in which utterances come together. Nothing here
  knows a name: what a column means is between the extractor and the network.
- A padded batch and a pack are stacked by the same code. They differ in where utterances begin (`Axis`).
- The forms are those of WEST's extractors (batched, packed, offset), and `extent`, which is there a length of
  the one kind beside an offset of the other.

Legend: N places for an utterance in a batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError

BATCHED = "batched"  # a row for each utterance
PACKED = "packed"  # laid along an axis, in a pack end to end
OFFSET = "offset"  # packed; and its values are positions, which are shifted by where the utterance begins
EXTENT = "extent"  # where an utterance lies on an axis: its length, in a pack (first, length)


@dataclass(frozen=True)
class Column:
    """One named input of a network.

    Parameters
    ----------
    name : ends in its axes.
    form : BATCHED, PACKED, OFFSET or EXTENT.
    axis : that it is laid along, or tells the extent on; "" of a batched one.
    shape : of a row (batched), or of one position (packed): numbers, or names of axes and sizes.
    of : the axis whose positions the values of an offset column are.
    base : the lowest of its values that is such a position.
    fill : where there is no utterance; of an extent in padded batches alone, in packs it is (0, 0).
    dtype : of the array.
    """

    name: str
    form: str
    axis: str = ""
    shape: tuple[int | str, ...] = ()
    of: str = ""
    base: int = 0
    fill: int = 0
    dtype: type = np.int32


@dataclass(frozen=True)
class Axis:
    """What utterances are laid along: `rows` of one `length`.

    Attributes
    ----------
    starts : for each place, where its utterance begins in the rows laid end to end.
    """

    rows: int
    length: int
    starts: Sequence[int]


def stack(
    columns: Iterable[Column],
    places: Sequence[dict[str, np.ndarray] | None],
    axes: dict[str, Axis],
    sizes: dict[str, int],
    packed: bool,
) -> dict[str, np.ndarray]:
    """Name -> array of a batch.

    Parameters
    ----------
    places : name -> values of the utterance in each; None, or a name left out, for nothing.
    axes, sizes : what the columns name.
    packed : whether extents have a first position, too.

    Raises
    ------
    UserError : an utterance has more values than there are positions for it.
    """
    lengths = {name: axis.length for name, axis in axes.items()} | sizes
    return {column.name: _array(column, places, axes, lengths, packed) for column in columns}


def _array(
    column: Column, places, axes: dict[str, Axis], lengths: dict[str, int], packed: bool
) -> np.ndarray:
    """The array of one column."""
    found = [(n, place[column.name]) for n, place in enumerate(places) if place and column.name in place]
    if column.form == EXTENT:
        return _extents(column, found, len(places), axes[column.axis], packed)
    shape = tuple(lengths.get(size, size) for size in column.shape)
    if column.form == BATCHED:
        out = np.full((len(places), *shape), column.fill, column.dtype)
        for n, values in found:
            if shape:
                _fits(column, len(values), shape[0])
                out[n, : len(values)] = values
            else:
                out[n] = values
        return out
    axis = axes[column.axis]
    out = np.full((axis.rows * axis.length, *shape), column.fill, column.dtype)
    for n, values in found:
        start = axis.starts[n]
        _fits(column, len(values), axis.length - start % axis.length)
        if column.form == OFFSET:
            values = np.where(values >= column.base, values + axes[column.of].starts[n], values)
        out[start : start + len(values)] = values
    return out.reshape(axis.rows, axis.length, *shape)


def _extents(column: Column, found, places: int, axis: Axis, packed: bool) -> np.ndarray:
    out = np.zeros((places, 2), column.dtype) if packed else np.full(places, column.fill, column.dtype)
    for n, length in found:
        out[n] = (axis.starts[n], length) if packed else length
    return out


def _fits(column: Column, count: int, free: int) -> None:
    if count > free:
        raise UserError(f"{column.name}: {count} values of an utterance do not fit {free} positions")
