"""Runs training steps whose overflows the device's flag tells (Ascend's saturation mode), on CPU.

    python -m tests.ascend.step_worker MEASURED.json

A kernel of ascend_ops_cpu raises the flag when it stores an infinite number. The network hides such a number
from loss and gradients, as saturation does: nothing but the flag knows of it.
"""

import json
import sys
from pathlib import Path

import ascend_ops_cpu
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.dropout import PACKED, ROWS, Dropout, count_dropout

FINE, TOO_MUCH = np.ones((2,), np.float32), np.full((2,), 3e38, np.float32)


class Saturated(nn.Cell):
    """The sum of a norm's result, no term beyond 1 or -1."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.array([[0.1, 4.0]], np.float32)), name="w")
        self.norm = device_ops.cells(ms.float32).RMSNorm(2, 1e-6)

    def losses(self, weight):
        loss = ops.reduce_sum(ops.clamp(self.norm(self.w, weight), -1.0, 1.0))
        return loss, loss.reshape((1,)), loss.reshape((1,))


def step_cell(accumulation: int):
    """The real step cell around SGD, on the branch of an Ascend 910A."""
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import TrainStep

    net = Saturated()
    optimizer = nn.SGD(net.trainable_params(), WarmupLR(1.0, 1, 10**9, "linear"))
    cell = TrainStep(net, optimizer, accumulation, use_clip_grad=True, max_grad_norm=100.0)
    cell.on_cpu, cell.ascend_910a_target = False, True
    return net, cell.set_train()


def run(accumulation: int, micro_batches) -> list[dict]:
    """What each micro-batch gave: (weight of the norm, whether the flag is up before it)."""
    net, cell = step_cell(accumulation)
    found = []
    for weight, raised in micro_batches:
        before = net.w.asnumpy().copy()
        if raised:
            ascend_ops_cpu.set_overflow()
        out = cell(Tensor(weight))
        found.append(
            {
                "loss": float(out[0].asnumpy()),
                "norm": float(out[4].asnumpy()),
                "bad": bool(out[1].asnumpy()),
                "moved": bool((net.w.asnumpy() != before).any()),
            }
        )
    return found


def masks() -> dict:
    """Whether x and its gradient lose the same elements, packed into bits and with a byte each."""
    x, found = Tensor(np.ones((30, 256), np.float32)), {}
    for form in (PACKED, ROWS):
        cell = Dropout(0.3, 256).set_train()
        found[f"{form} is chosen"] = cell.form == form
        cell.form = form
        count_dropout(cell, 1, 0).begin(9)
        y, grad = ops.value_and_grad(Summed(cell), 0, None, has_aux=True)(x)
        found[form] = [y[1].asnumpy().tolist(), grad.asnumpy().tolist()]
    return found


class Summed(nn.Cell):
    """The sum of a cell's result, and the result."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x):
        y = self.cell(x)
        return ops.reduce_sum(y), y


def main() -> None:
    """Measure, write."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ascend_ops_cpu.enable()
    device_ops.use("fused")
    fine, too_much, stale = (FINE, False), (TOO_MUCH, False), (FINE, True)
    measured = {
        "one": run(1, [fine, too_much, fine, stale]),
        "two": run(2, [fine, fine, too_much, fine, fine, too_much, fine, fine]),
        "masks": masks(),
        "calls": ascend_ops_cpu.calls(),
    }
    Path(sys.argv[1]).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
