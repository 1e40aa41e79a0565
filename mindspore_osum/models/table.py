"""Parameters as data: every module once, with its names in each published form and its sizes.

Conversion, planner and documents are derived from such tables; a test holds them equal to the cells.

Notable choices
- A size is the name of a setting ("d_model") or a product of names ("n_heads*head_dim"), so that a row is
  read in both directions: the shapes that a configuration needs, and what tensors say of a configuration.
- Whether a bias, a norm or a head exists is a setting's business too (`Param.when`), never that of the
  tensors found: one that an earlier conversion lost (openPangu's o_proj bias is a known victim) is missed,
  not excused.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from mindspore_osum.errors import UserError

Shapes = dict[str, tuple[int, ...]]
Values = Mapping[str, Any]  # settings, and what follows from them, by name


@dataclass(frozen=True)
class Param:
    """A parameter of a module: sizes of its axes, and the setting it exists with ("" always)."""

    name: str
    sizes: tuple[int | str, ...]
    when: str = ""


@dataclass(frozen=True)
class Row:
    """A module that has parameters.

    Attributes
    ----------
    ours : its name in the part; `{i}` stands for the number of its layer.
    names : form -> its name there, without what all keys of the part begin with.
    params : its parameters, in the order of files.
    layers : setting that says how many layers there are, where `ours` has `{i}`.
    tied : the module whose weight it shares where it does not exist.
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
    part : what our names begin with, and the section of the configuration; "" for the model's own.
    values : what the names in the rows stand for, of one configuration; empty for a table of names alone.
    sections : the sections of the configuration that describe the part.
    """

    part: str
    rows: tuple[Row, ...]
    values: Values = field(default_factory=dict)
    sections: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What our names of its parameters begin with."""
        return f"{self.part}." if self.part else ""


def affine(*sizes: int | str, bias: bool | str = True) -> tuple[Param, ...]:
    """weight and, for True or with the setting `bias`, bias as long as the first axis."""
    weight = Param("weight", sizes)
    return (weight, Param("bias", sizes[:1], "" if bias is True else bias)) if bias else (weight,)


def shapes(tables: Iterable[Table]) -> Shapes:
    """Every parameter of the model with the tables' values: name -> shape, in the order of the rows."""
    out: Shapes = {}
    for table in tables:
        for layers, rows in groupby(table.rows, key=lambda row: row.layers):
            rows = list(rows)
            for i in range(table.values[layers] if layers else 1):
                for row in rows:
                    module = table.prefix + row.ours.replace("{i}", str(i))
                    for param in row.params:
                        if not param.when or table.values[param.when]:
                            out[f"{module}.{param.name}"] = tuple(
                                size_of(s, table.values) for s in param.sizes
                            )
    return out


def size_of(size: int | str, values: Values) -> int:
    """A size of a row as a number."""
    return size if isinstance(size, int) else math.prod(values[name] for name in size.split("*"))


def stand_in(tables: Iterable[Table], name: str) -> str | None:
    """The parameter that is shared instead of our `name`, which does not exist; None if there is none."""
    for table in tables:
        for row in table.rows:
            if row.tied and name == f"{table.prefix}{row.ours}.weight":
                return f"{table.prefix}{row.tied}.weight"
    return None


def read_sizes(rows: Iterable[Row], prefix: str, found: Shapes, wanted: Collection[str]) -> dict[str, int]:
    """What shapes tell of settings: of each in `wanted` that is an axis, or a number of layers.

    A size is read off the first parameter that exists in every model and has it as an axis, of layer 0.

    Parameters
    ----------
    prefix : what our names in `found` begin with.

    Raises
    ------
    UserError : a tensor that a size is read off is missing or has another rank.
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
    """One more than the highest number behind `prefix` in the names found."""
    numbers = (name[len(prefix) :].partition(".")[0] for name in found if name.startswith(prefix))
    return max(map(int, numbers), default=-1) + 1
