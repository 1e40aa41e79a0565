"""A cell's construct as a compiled graph."""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.common import api

from mindspore_osum.inference.memory import held
from mindspore_osum.interrupts import steady


class Graph:
    """A cell's construct as a graph, without the overhead of calling a cell.

    Attributes
    ----------
    shapes : those of inputs that it is compiled for.
    nbytes : what these hold in memory, as measured when they first ran.
    """

    def __init__(self, cell: nn.Cell):
        # a method of one object is compiled for that object alone; a decorated class would go by addresses
        self.cell, self.call = cell, ms.jit(cell.construct)
        self.shapes: set[tuple] = set()
        self.nbytes = 0
        self._phases: set[str] = set()  # MindSpore's names of what it compiled

    def __call__(self, *inputs):
        return self.call(*inputs)

    def compile(self, shapes: tuple, inputs: Sequence) -> None:
        """Compile for inputs of new shapes, which is done by running once."""
        before, known = held(), set(self.cell.phase_cache.values())
        self.call(*inputs)[0].asnumpy()
        self._phases |= set(self.cell.phase_cache.values()) - known
        self.nbytes += max(0, held() - before)
        self.shapes.add(shapes)

    def release(self) -> None:
        """Let MindSpore free what it has compiled, which it would keep for as long as the process lives."""
        executors = api._cell_graph_executor, api.JitExecutor_.get_instance()  # each frees a part
        for executor in executors:
            executor.del_net_res(None, self._phases)
        executors[1].set_weights_values({})  # it holds the parameters of the last cell that was compiled
        api.ms_compile_cache.difference_update(self._phases)


def on_host(x: Tensor) -> np.ndarray:
    """The values of a tensor, when they are computed; of bfloat16, which NumPy does not have, in float32."""
    with steady():
        return (x.astype(ms.float32) if x.dtype == ms.bfloat16 else x).asnumpy()


def shapes_of(inputs: Sequence[Tensor | None]) -> tuple:
    """The static shapes of a graph's inputs, for which it is compiled once."""
    return tuple(None if x is None else x.shape for x in inputs)
