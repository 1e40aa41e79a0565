"""The operators of a compiled graph as data, without running it and without the device it is made for.

MindSpore's front end compiles a cell (derives shapes and types, builds gradients, optimises) before it looks
for kernels. Its graph at that point is read here, so a graph of Ascend's operators can be inspected on any
machine.

Notable choices
- What a device's back end makes of the graph is not seen: fused or split operators, casts it adds.
- A branch or loop body is listed once, wherever it is called from.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

import numpy as np
from mindspore import nn
from mindspore.common.api import _cell_graph_executor as executor
from mindspore.train import mind_ir_pb2 as mind_ir

ONLY_FRONT_END = "MS_DEV_PRECOMPILE_ONLY"  # read by MindSpore whenever it compiles
LARGEST_VALUE = 16  # elements of a constant tensor whose values are kept
# no kernel is started for these: other shapes of the same memory, tuples, order, control flow
NO_KERNEL = frozenset(
    "Reshape ExpandDims Squeeze Flatten StopGradient Depend Load UpdateState TupleGetItem MakeTuple "
    "RealMakeTuple RealTupleGetItem ListGetItem MakeList Return Switch Partial call Shape ScalarToTensor "
    "TensorToScalar make_list make_tuple".split()
)


@dataclass(frozen=True)
class Value:
    """An input or output of a node.

    Attributes
    ----------
    dtype : "float32", "bfloat16", "int32", "bool", "string", "tuple", ...; "none" for None, "" for what only
        orders operators.
    shape : of a tensor; None for all others.
    value : of a constant: number, text, tuple of them, or elements of a small tensor; else None.
    is_constant : whether it is known when the graph is compiled.
    items : of a tuple.
    """

    dtype: str
    shape: tuple[int, ...] | None = None
    value: object = None
    is_constant: bool = False
    items: tuple["Value", ...] = ()

    @property
    def tensors(self) -> tuple["Value", ...]:
        """Itself if it is a tensor, those of a tuple, or nothing."""
        if self.shape is not None:
            return (self,)
        return tuple(tensor for item in self.items for tensor in item.tensors)

    def __str__(self) -> str:
        if self.shape is not None:
            return f"{self.dtype}{list(self.shape)}"
        if self.tensors:
            return f"({', '.join(map(str, self.items))})"
        return repr(self.value) if self.is_constant else self.dtype or "-"


@dataclass(frozen=True)
class Node:
    """An operator of a graph.

    Attributes
    ----------
    name : of the operator, as "MatMul"; "call" of another function of the graph.
    scope : the cells it belongs to, as "Default/model-Decoder/layers-CellList/0-DecoderLayer/..."; that of a
        gradient begins with "Gradients/".
    inputs, outputs : in the operator's order; constants are inputs, too.
    attributes : of the operator.
    """

    name: str
    scope: str
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)

    @property
    def has_kernel(self) -> bool:
        """Whether the device starts a kernel for it."""
        return self.name not in NO_KERNEL

    def __str__(self) -> str:
        given, made = (", ".join(map(str, values)) for values in (self.inputs, self.outputs))
        return f"{self.name}({given}) -> {made}"


def nodes(cell: nn.Cell, *inputs) -> list[Node]:
    """The operators of `cell` for these inputs, in the order of the graph.

    Parameters
    ----------
    cell : in training or evaluation mode, made for the device of interest (`target.made_for`). Its parameters
        may be without data (MindSpore's no_init_parameters), and then stay so.
    inputs : tensors, or None; their values do not matter.
    """
    with _only_front_end(cell):
        name, _ = executor.compile(cell, *inputs, phase=f"{cell.phase or 'predict'}.nodes", do_convert=False)
    model = mind_ir.ModelProto.FromString(executor._get_func_graph_proto(cell, name, "mind_ir"))
    # else MindSpore would take the graph for a complete one
    executor.del_net_res(cell, {name})
    cell.compile_cache.discard(name)
    return list(_nodes(model))


@contextmanager
def _only_front_end(cell: nn.Cell) -> Iterator[None]:
    before = os.environ.get(ONLY_FRONT_END)
    os.environ[ONLY_FRONT_END] = "1"
    # MindSpore gives values to parameters when a graph is compiled, which here would only take memory
    object.__setattr__(cell, "init_parameters_data", lambda **_: {})
    try:
        yield
    finally:
        object.__delattr__(cell, "init_parameters_data")
        del os.environ[ONLY_FRONT_END]
        if before is not None:
            os.environ[ONLY_FRONT_END] = before


def _nodes(model) -> Iterator[Node]:
    """The nodes of all functions of a graph in MindSpore's form of files (mind_ir.proto)."""
    primitives = {p.name: p for p in model.primitives}
    for graph in (model.graph, *model.functions):
        known = {p.name: _tensor(p) for p in graph.parameter}
        for given in graph.input:
            known[given.name] = _tensor(given.tensor[0]) if given.tensor else Value("")
        for node in graph.node:
            described = next((a for a in node.attribute if a.name in ("value", "shape")), None)
            made = Value("") if described is None else _value(described, node.op_type == "Constant")
            known[node.output[0]] = made
            if node.op_type == "Constant":
                continue
            # an operator's output of several tensors is a tuple here
            outputs = made.items if made.dtype == "tuple" else (made,)
            inputs = tuple(known.get(name, Value("")) for name in node.input)
            primitive = primitives.get(node.op_type.removeprefix("REF::"))
            if primitive is None:
                yield Node("call", node.domain, inputs, outputs)
                continue
            attributes = {a.name: _value(a, True).value for a in primitive.attribute}
            yield Node(primitive.op_type, node.domain, inputs, outputs, attributes)


def _value(proto, constant: bool) -> Value:
    """A value from its AttributeProto."""
    kind = mind_ir.AttributeProto.AttributeType.Name(proto.type)
    if kind == "TENSORS":
        return _tensor(proto.tensors[0], constant)
    if kind in ("TUPLE", "LIST"):
        items = tuple(_value(item, constant) for item in proto.values)
        return Value("tuple", None, tuple(item.value for item in items), constant, items)
    if kind in ("UMONAD", "IOMONAD"):
        return Value("")
    dtype = _name(kind)
    if kind in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"):
        value = next(iter((*proto.floats, *proto.doubles)), proto.d if kind == "DOUBLE" else proto.f)
    elif kind == "STRING":
        value = next(iter(proto.strings), proto.s).decode()
    elif kind == "NONE":
        value = None
    else:
        value = next(iter(proto.ints), proto.i)
        value = bool(value) if kind == "BOOL" else value
    return Value(dtype, None, value if constant else None, constant)


def _tensor(proto, constant: bool = False) -> Value:
    """A tensor from its TensorProto."""
    dtype, shape = _name(mind_ir.TensorProto.DataType.Name(proto.data_type)), tuple(proto.dims)
    value = None
    if constant and proto.raw_data and prod(shape) <= LARGEST_VALUE and dtype != "bfloat16":
        value = tuple(np.frombuffer(proto.raw_data, dtype).tolist())
    return Value(dtype, shape, value, constant)


def _name(kind: str) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(kind, kind.lower())
