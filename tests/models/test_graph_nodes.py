"""The operators of a graph as data."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer
from mindspore.nn.utils import no_init_parameters

from mindspore_osum.models import graph_nodes, target
from mindspore_osum.models import ops as device_ops


class Block(nn.Cell):
    """A norm, a mask if some number is large, and a split."""

    def __init__(self):
        super().__init__()
        self.norm = device_ops.cells(ms.bfloat16).RMSNorm(64, 1e-6)
        self.weight = Parameter(initializer("ones", (64,), ms.bfloat16))
        self.many = Parameter(Tensor([3], ms.int32), requires_grad=False)

    def construct(self, x, nothing):
        y = self.norm(x, self.weight)
        if self.many.reshape(()) > 2:
            y = ops.exp(y)
        a, b = ops.split(y, 32, -1)
        return ops.concat((a, b), 0).reshape((4, -1))


@pytest.fixture(scope="module")
def found():
    """The nodes of the block for a device that is not here."""
    ms.set_context(mode=ms.GRAPH_MODE)
    with target.made_for("Ascend"), no_init_parameters():
        block = Block()
    return graph_nodes.nodes(block, Tensor(np.zeros((2, 6, 64)), ms.bfloat16), None)


def one(found, name: str) -> graph_nodes.Node:
    (node,) = [node for node in found if node.name == name]
    return node


def test_types_shapes_and_constants(found):
    norm = one(found, "RmsNorm")
    assert str(norm).startswith("RmsNorm(bfloat16[2, 6, 64], bfloat16[64], 9.99")
    assert [str(value) for value in norm.outputs] == ["bfloat16[2, 6, 64]", "float32[2, 6, 1]"]
    assert norm.inputs[2].is_constant and not norm.inputs[0].is_constant
    reshaped = [node for node in found if node.name == "Reshape"][-1]
    assert reshaped.inputs[1].value == (4, -1)


def test_scopes_name_the_cells(found):
    assert "norm-RMSNorm" in one(found, "RmsNorm").scope


def test_tuples_of_tensors(found):
    parts = one(found, "Concat")
    assert [t.shape for t in parts.inputs[0].tensors] == [(2, 6, 32)] * 2


def test_branches_are_seen(found):
    assert one(found, "Exp").inputs[0].dtype == "bfloat16"


def test_views_have_no_kernel(found):
    assert {node.name for node in found if node.has_kernel} >= {"RmsNorm", "Exp", "Concat"}
    assert not any(
        node.has_kernel for node in found if node.name in ("Reshape", "TupleGetItem", "Load", "call")
    )


class Double(nn.Cell):
    """Twice the parameter, plus x."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(initializer("ones", (3,), ms.float32))

    def construct(self, x):
        return x + 2 * self.weight


def test_a_cell_runs_after_it_was_looked_at():
    cell, x = Double(), Tensor(np.ones(3, np.float32))
    first, again = graph_nodes.nodes(cell, x), graph_nodes.nodes(cell, x)
    assert [str(node) for node in first] == [str(node) for node in again]
    assert cell(x).asnumpy().tolist() == [3, 3, 3]
