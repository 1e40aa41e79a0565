"""Programs of a device as tapes: a training step, the prefill of prompts, a decode step.

The network comes from the `cost` module of the model's system; the optimizer (training/adamw.py) is here.
"""

from mindspore_osum.planning.job import WHOLE, Batch, Job, Stage
from mindspore_osum.planning.operators import Operators
from mindspore_osum.planning.tape import F32, GRADIENT, WORKSPACE, Tape
from mindspore_osum.systems.registry import system_of


def cost_of(model):
    """The `cost` module of the model's system; UserError if it has none."""
    return system_of(model.model_type).cost()


def training(job: Job, batch: Batch, stage: Stage = WHOLE) -> Tape:
    """Forward, backward, clipping and AdamW for the last micro-batch of a step."""
    tape = Tape()
    ops = Operators(
        tape,
        job.width,
        job.fused,
        recompute=job.recompute,
        dropping=job.dropout,
        model_parallel=stage.model_parallel,
    )
    loss = cost_of(job.model).loss(ops, job, batch, stage)
    if loss.grad:
        tape.backward(loss)
    _update(tape, job)
    return tape


def _update(tape: Tape, job: Job) -> None:
    """Clipping by the global gradient norm in float32, then AdamW parameter by parameter."""
    full, grads, tape.update_steps = F32 // job.width, tape.weight_grads, len(tape.steps)
    if full > 1:
        grads = [tape.step("cast", [g], full * g.bytes, kind=GRADIENT) for g in grads]
    tape.step("norm", grads, F32, kind=WORKSPACE)
    for grad in [tape.step("scale", [g], g.bytes, kind=WORKSPACE) for g in grads]:
        state = 2 * 3 * grad.bytes  # weight or its copy and two moments, read and written
        tape.step("adamw", [grad], grad.bytes if job.fused else 0, params=state, kind=WORKSPACE)


def prefill(job: Job, batch: Batch) -> Tape:
    """Prefill of a batch of prompts, with the scores of their last position."""
    tape = Tape()
    cost_of(job.model).prefill(Operators(tape, job.width, job.fused), job.model, batch, WHOLE)
    return tape


def decoding(job: Job, rows: int, slots: int) -> Tape:
    """Decode step: one new token per row, with a cache of `slots` slots."""
    tape = Tape()
    cost_of(job.model).step(Operators(tape, job.width, job.fused), job.model, rows, slots)
    return tape
