"""Parameters as data: a table of all modules, with their names in each published form and their sizes.

Conversion, planner and documents are derived from these tables; a test compares them with the cells.

Notable choices
- A size is the name of a setting ("d_model") or a product of names ("n_heads*head_dim"), so that a row works
  in both directions: it gives the shapes for a configuration, and the configuration for given tensors.
- A setting also decides whether a bias, a norm or a head exists (`Param.when`), never the tensors found. A
  tensor lost in an earlier conversion (openPangu's o_proj bias is a known case) is thus reported as missing.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from mindspore_osum.errors import UserError

MOST_LAYERS = 10_000  # of a part; published models have about a hundred
Shapes = dict[str, tuple[int, ...]]
Values = Mapping[str, Any]  # settings and derived values, by name


@dataclass(frozen=True)
class Param:
    """A parameter of a module: sizes of its axes, and the setting it depends on ("" always exists)."""

    name: str
    sizes: tuple[int | str, ...]
    when: str = ""


class Whole(str):
    """A name in another form that is the whole key of a row's only parameter, which no module has there."""


class Batched(Whole):
    """As `Whole`, of a tensor that has a leading axis of 1 there."""


@dataclass(frozen=True)
class Row:
    """A module that has parameters.

    Attributes
    ----------
    ours : its name in the part; `{i}` stands for the number of its layer.
    names : form -> its name there, without the prefix of the part; a `Whole` also without its parameter's.
    params : its parameters, in the order of files.
    layers : setting with the number of layers, where `ours` has `{i}`.
    tied : the module whose weight is shared where this one does not exist.
    """

    ours: str
    names: Mapping[str, str]
    params: tuple[Param, ...]
    layers: str = ""
    tied: str = ""


@dataclass(frozen=True)
class Table:
    """The rows of one part of a model.

    Attributes
    ----------
    part : prefix of our names, and section of the configuration; "" for parameters of the model itself.
    values : values of the names in the rows, for one configuration; empty for a table of names only.
    sections : the sections of the configuration that describe the part.
    """

    part: str
    rows: tuple[Row, ...]
    values: Values = field(default_factory=dict)
    sections: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """Prefix of our names of its parameters."""
        return f"{self.part}." if self.part else ""


def affine(*sizes: int | str, bias: bool | str = True) -> tuple[Param, ...]:
    """weight and, if `bias` is True or the name of a setting that is on, a bias as long as the first axis."""
    weight = Param("weight", sizes)
    return (weight, Param("bias", sizes[:1], "" if bias is True else bias)) if bias else (weight,)


def shapes(tables: Iterable[Table]) -> Shapes:
    """Every parameter of the model for the tables' values: name -> shape, in the order of the rows.

    Raises
    ------
    UserError : layers that have more parameters than any model.
    """
    out: Shapes = {}
    for table in tables:
        for layers, rows in groupby(table.rows, key=lambda row: row.layers):
            rows = list(rows)
            times = table.values[layers] if layers else 1
            if times > MOST_LAYERS:
                raise UserError(f"{table.prefix}{layers}: {times} layers, at most {MOST_LAYERS} are possible")
            for i in range(times):
                for row in rows:
                    module = table.prefix + row.ours.replace("{i}", str(i))
                    for param in row.params:
                        if not param.when or table.values[param.when]:
                            out[f"{module}.{param.name}"] = tuple(
                                size_of(s, table.values) for s in param.sizes
                            )
    return out


def size_of(size: int | str, values: Values) -> int:
    """The value of a size in a row."""
    return size if isinstance(size, int) else math.prod(values[name] for name in size.split("*"))


def stand_in(tables: Iterable[Table], name: str) -> str | None:
    """The parameter that is shared instead of our `name`, which does not exist; None if there is none."""
    for table in tables:
        for row in table.rows:
            if row.tied and name == f"{table.prefix}{row.ours}.weight":
                return f"{table.prefix}{row.tied}.weight"
    return None


def read_sizes(rows: Iterable[Row], prefix: str, found: Shapes, wanted: Collection[str]) -> dict[str, int]:
    """Infer the settings in `wanted` from shapes: those that are an axis or a number of layers.

    A size is taken from the first parameter (of layer 0) that exists in every model and has it as an axis.

    Parameters
    ----------
    prefix : prefix of our names in `found`.

    Raises
    ------
    UserError : a tensor that is needed is missing or has another rank.
    """
    out: dict[str, int] = {}
    for row in rows:
        if row.layers in wanted and row.layers not in out:
            out[row.layers] = layer_count(found, prefix + row.ours.partition("{i}")[0])
        for param in (param for param in row.params if not param.when):
            name = f"{prefix}{row.ours.replace('{i}', '0')}.{param.name}"
            for axis, size in enumerate(param.sizes):
                if size in wanted and size not in out:
                    out[size] = axis_of(found, name, axis)
    return out


def axis_of(found: Shapes, name: str, axis: int) -> int:
    """The size of an axis; UserError if the tensor is missing or has no such axis."""
    shape = found.get(name)
    if shape is None or len(shape) <= axis:
        raise UserError(
            f"tensor {name!r} is missing or has a wrong rank, so the model's sizes cannot be read"
        )
    return shape[axis]


def layer_count(found: Iterable[str], prefix: str) -> int:
    """One more than the highest number after `prefix` in the names found."""
    numbers = (name[len(prefix) :].partition(".")[0] for name in found if name.startswith(prefix))
    return max(map(int, numbers), default=-1) + 1
