"""Named columns of a batch: the extractor's values of each utterance, stacked to arrays of static shape.

Notable choices
- A column is declared once, by the extractor, with the form in which utterances are combined. This module
  knows no names: only the extractor and the network know what a column means.
- A padded batch and a pack are stacked by the same code. They differ in where utterances begin (`Axis`).
- The forms are those of WEST's extractors (batched, packed, offset) and `extent`, for which WEST uses a
  length (padded) and an offset (packed).

Legend: N slots for utterances in a batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError

BATCHED = "batched"  # one row per utterance
PACKED = "packed"  # along an axis; in a pack, end to end
OFFSET = "offset"  # packed; its values are positions and are shifted to where the utterance begins
EXTENT = "extent"  # where an utterance lies on an axis: its length; in a pack (first, length)


@dataclass(frozen=True)
class Column:
    """One named input of a network.

    Parameters
    ----------
    name : with its axes as suffix.
    form : BATCHED, PACKED, OFFSET or EXTENT.
    axis : the axis it lies along, or whose extent it holds; "" for a batched column.
    shape : of a row (batched) or of one position (packed): numbers, or names of axes and sizes.
    of : for an offset column, the axis that its values are positions of.
    base : for an offset column, the lowest value that is a position.
    fill : value where there is no utterance; extents in packs have (0, 0) instead.
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
    """An axis along which utterances lie: `rows` of equal `length`.

    Attributes
    ----------
    starts : for each slot, where its utterance begins in the rows laid end to end.
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
    """Stack the values of utterances to the arrays of a batch, by name.

    Parameters
    ----------
    places : for each slot, name -> values of its utterance; None (or a missing name) for no value.
    axes, sizes : those that the columns name.
    packed : whether extents also hold the first position.

    Raises
    ------
    UserError : an utterance has more values than positions.
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
