"""A program as a list of operators with their sizes: memory over time, and work.

A network is described by calls of `Operators`, which append its forward steps to a `Tape`; `backward` appends
the steps of its gradients. The steps determine the peak of memory, by the lifetime of every block, and the
work.

Notable choices
- A block lives from the step that writes it to the last step that reads it, as with MindSpore's reference
  counts.
- There is no hand-written list of activations to keep: each operator has the gradient that MindSpore builds
  for it, and blocks that the gradient reads stay alive.
- Parameters, optimizer state and inputs are not blocks, since they are always allocated. Steps count their
  traffic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

F32 = 4  # bytes of a float32
ACTIVATION, GRADIENT, WORKSPACE = "activations", "gradients", "workspace"


@dataclass(eq=False)
class Block:
    """Memory written by a step."""

    bytes: int
    kind: str
    first: int  # the step that writes it
    last: int  # the last step that reads it


@dataclass(frozen=True)
class Step:
    """One operator."""

    name: str
    flops: float  # of matrix products and convolutions; 2 for a multiplication and an addition
    moved: int  # bytes read and written, parameters included


@dataclass(eq=False)
class Value:
    """A tensor of the network: its block, and whether it gets a gradient."""

    block: Block
    grad: bool
    grads: list[Block] = field(default_factory=list)  # the parts of its gradient so far

    @property
    def bytes(self) -> int:
        return self.block.bytes


Gradient = Callable[[Block], Sequence[tuple[Value, Block | None]]]


class Tape:
    """Records steps."""

    def __init__(self):
        self.steps: list[Step] = []
        self.blocks: list[Block] = []
        self.weight_grads: list[Block] = []
        self._records: list[tuple[Value, Gradient]] = []
        self._recording, self._kind = True, ACTIVATION
        self.forward_steps = self.update_steps = 0  # first steps of backward and optimizer
        self.tables = 0  # bytes that kernels keep between steps
        self.dropout: set[tuple[int, float]] = set()  # width and p of the tables of masks

    def step(
        self, name: str, reads: Sequence[Block], size: int, flops: float = 0, params: int = 0, kind: str = ""
    ) -> Block:
        """Append a step that writes a new block.

        Parameters
        ----------
        reads : blocks it reads.
        size : bytes of the new block.
        params : bytes of parameters or inputs that it also reads or writes.
        kind : of the new block; default an activation in the forward pass, else workspace.
        """
        now = len(self.steps)
        for block in reads:
            block.last = now
        self.steps.append(Step(name, flops, size + params + sum(b.bytes for b in reads)))
        self.blocks.append(Block(int(size), kind or self._kind, now, now))
        return self.blocks[-1]

    def op(
        self,
        name: str,
        inputs: Sequence[Value],
        size: int,
        gradient: Gradient | None = None,
        learns: bool = False,
        flops: float = 0,
        params: int = 0,
    ) -> Value:
        """A forward operator; `gradient` maps its output's gradient to those of its inputs."""
        out = Value(
            self.step(name, [v.block for v in inputs], size, flops, params),
            learns or any(v.grad for v in inputs),
        )
        if gradient and out.grad and self._recording:
            self._records.append((out, gradient))
        return out

    def weight_grad(self, name: str, reads: Sequence[Block], size: int, flops: float = 0) -> None:
        """The gradient of a parameter, kept until the optimizer uses it."""
        self.weight_grads.append(self.step(name, reads, size, flops, kind=GRADIENT))

    def recomputed(self, part: Callable[[Value], Value], x: Value) -> Value:
        """part(x), of which only x is kept: the backward pass recomputes it."""
        recording, self._recording = self._recording, False
        out = part(x)
        self._recording = recording

        def gradient(dout: Block):
            again, outer = Value(x.block, x.grad), self._records
            self._records = []
            part(again).grads.append(dout)
            self._backward()
            self._records = outer
            return [(x, grad) for grad in again.grads]

        if out.grad and recording:
            self._records.append((out, gradient))
        return out

    def backward(self, loss: Value) -> None:
        """Append the steps of all gradients, from the loss back."""
        self._kind, self.forward_steps = WORKSPACE, len(self.steps)
        loss.grads.append(self.step("loss", [loss.block], loss.bytes))
        self._backward()

    def _backward(self) -> None:
        for out, gradient in reversed(self._records):
            if not out.grads:
                continue
            total = out.grads[0]
            if len(out.grads) > 1:
                total = self.step("add gradients", out.grads, total.bytes)
            for value, grad in gradient(total):
                if value.grad and grad is not None:
                    value.grads.append(grad)
        self._records = []

    @property
    def flops(self) -> float:
        return sum(step.flops for step in self.steps)

    @property
    def kept(self) -> int:
        """Bytes that the forward pass keeps for the backward pass."""
        end = self.forward_steps
        return sum(block.bytes for block in self.blocks if block.first < end <= block.last)

    def held(self) -> list[int]:
        """Bytes of live blocks during each step."""
        change = [0] * (len(self.steps) + 1)
        for block in self.blocks:
            change[block.first] += block.bytes
            change[block.last + 1] -= block.bytes
        held = []
        for delta in change[:-1]:
            held.append(delta + (held[-1] if held else 0))
        return held

    def peak(self) -> dict[str, int]:
        """Bytes of each kind of block at the memory peak."""
        held = self.held()
        parts = dict.fromkeys((ACTIVATION, GRADIENT, WORKSPACE), 0)
        if held:
            top = held.index(max(held))
            for block in self.blocks:
                if block.first <= top <= block.last:
                    parts[block.kind] += block.bytes
        return parts
