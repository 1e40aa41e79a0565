"""Time of a step by a roofline: each operator is bound by arithmetic or by device memory.

The result is a lower bound: no launch overhead, no waiting, no input pipeline, perfect kernels. The fraction
that a real system reaches must be measured (docs/PLAN.md gives a published value).
"""

from collections.abc import Iterable
from dataclasses import replace

from mindspore_osum.planning.hardware import NODE, Device
from mindspore_osum.planning.job import Batch, Job, Stage
from mindspore_osum.planning.programs import cost_of, training
from mindspore_osum.planning.tape import F32, Step, Tape


def roofline(steps: Iterable[Step], device: Device, width: int) -> float:
    """Seconds of the steps in sequence; `width` is the bytes per element."""
    peak = device.fp32 if width == F32 else device.bf16
    return sum(max(step.flops / peak, step.moved / device.hbm) for step in steps)


def model_flops(job: Job, batch: Batch) -> float:
    """FLOP of a micro-batch in matrix products and convolutions, forward and backward.

    Recomputation, including that of the scores in fused attention, is not counted.
    """
    tape = training(replace(job, recompute=False, fused=False), batch)
    return sum(step.flops for step in tape.steps)


def all_reduce(size: float, members: int, within_server: bool, device: Device) -> float:
    """Seconds of a ring all-reduce (Patarasuk & Yuan 2009)."""
    if members < 2:
        return 0.0
    return 2 * (members - 1) / members * size / (device.link if within_server else device.network)


def shared_layers(job: Job, batch: Batch, stage: Stage) -> float:
    """Bytes all-reduced for model parallelism per micro-batch: two tensors per layer in each direction."""
    both = 2 + job.recompute
    return 2 * both * cost_of(job.model).layer_outputs(job.model, batch, stage) * job.width


def step_seconds(
    tape: Tape,
    job: Job,
    device: Device,
    micro: int,
    *,
    shared: float,
    learned: int,
    data_parallel: int,
    model_parallel: int,
    stages: int,
) -> float:
    """Minimum seconds of an optimizer step on the devices of the slowest pipeline stage.

    Parameters
    ----------
    tape : of a micro-batch of that stage, with the update at its end.
    micro : micro-batches of a step.
    shared : bytes from `shared_layers`.
    learned : bytes of gradients on a device.
    """
    end = tape.update_steps
    work = roofline(tape.steps[:end], device, job.width)
    work += all_reduce(shared, model_parallel, model_parallel <= NODE, device)
    within = data_parallel * model_parallel * stages <= NODE
    reduction = all_reduce(learned, data_parallel, within, device)
    return (micro + stages - 1) * work + reduction + roofline(tape.steps[end:], device, job.width)
