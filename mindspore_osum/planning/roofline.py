"""Time of a step by a roofline: each operator is bound by arithmetic or by device memory.

What it gives is the least time: no launch, no wait, no input, perfect kernels. What a real system reaches of
it is measured, not planned (docs/PLAN.md has the published anchor).
"""

from collections.abc import Iterable
from dataclasses import replace

from mindspore_osum.planning.hardware import NODE, Device
from mindspore_osum.planning.job import Batch, Job, Stage
from mindspore_osum.planning.programs import cost_of, training
from mindspore_osum.planning.tape import F32, Step, Tape


def roofline(steps: Iterable[Step], device: Device, width: int) -> float:
    """Seconds of the steps, one after the other; `width` is the bytes of an element."""
    peak = device.fp32 if width == F32 else device.bf16
    return sum(max(step.flops / peak, step.moved / device.hbm) for step in steps)


def model_flops(job: Job, batch: Batch) -> float:
    """Operations a micro-batch needs in matrix products and convolutions, forward and backward.

    What recomputation and the fused attention's second look at the scores add is not counted.
    """
    tape = training(replace(job, recompute=False, fused=False), batch)
    return sum(step.flops for step in tape.steps)


def all_reduce(size: float, members: int, within_server: bool, device: Device) -> float:
    """Seconds of a ring all-reduce of so many bytes (Patarasuk & Yuan 2009)."""
    if members < 2:
        return 0.0
    return 2 * (members - 1) / members * size / (device.link if within_server else device.network)


def shared_layers(job: Job, batch: Batch, stage: Stage) -> float:
    """Bytes that model parallelism sums over devices in a micro-batch: two tensors a layer, both ways."""
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
    """Least seconds of an optimizer step of the devices of a pipeline's slowest stage.

    Parameters
    ----------
    tape : of a micro-batch of that stage, with the update at its end.
    micro : micro-batches of a step.
    shared : bytes `shared_layers` gives.
    learned : bytes of gradients a device has.
    """
    end = tape.update_steps
    work = roofline(tape.steps[:end], device, job.width)
    work += all_reduce(shared, model_parallel, model_parallel <= NODE, device)
    within = data_parallel * model_parallel * stages <= NODE
    reduction = all_reduce(learned, data_parallel, within, device)
    return (micro + stages - 1) * work + reduction + roofline(tape.steps[end:], device, job.width)
