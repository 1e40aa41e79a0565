"""Time of a step by a roofline: each operator is bound by arithmetic, by device memory or by its launch.

With the rates `LEAST` the result is a lower bound: perfect kernels that start at once. With `LIKELY` it is an
estimate by assumptions, which docs/PLAN.md compares with a published run. Neither waits for input.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from mindspore_osum.planning.hardware import NODE, Device
from mindspore_osum.planning.job import Batch, Job, Stage
from mindspore_osum.planning.programs import cost_of, training
from mindspore_osum.planning.tape import F32, Step, Tape


@dataclass(frozen=True)
class Rates:
    """Fractions of a device's peaks that programs reach, and whether launches take time."""

    matmul: float = 1.0
    attention: float = 1.0
    memory: float = 1.0
    links: float = 1.0
    launches: bool = False


LEAST = Rates()
# matmul: large ones reach 88 to 94 % (328 TFLOP/s on a 910B, 230 on a 910B4-1, measured in public), odd sizes
#   less. attention: hand-written kernels on a 910B2 reach 24 to 54 %,
#   the more keys the more. memory, links: belief.
LIKELY = Rates(matmul=0.85, attention=0.4, memory=0.8, links=0.6, launches=True)
# what they make of the published run: OSUM trained at 1.23 s a step on 24 devices (10 days, 704,000 steps);
#   its optimizer, that of DeepSpeed, is taken to be fused
PUBLISHED = "by these the published 1.23 s a step on 24 devices means 4 batches a step, 71 to 78% full"
# operators of a step that is not one: inputs, the second result of a norm, and training/adamw.py for a
#   parameter (the compiled step of one layer has 35 for each of 43, with the two steps before it)
OPERATORS = {"data": 0, "norm statistics": 0, "adamw": 30}


def launches(steps: Iterable[Step]) -> int:
    """Operators of the steps."""
    return sum(OPERATORS.get(step.name, 1) for step in steps)


def roofline(steps: Iterable[Step], device: Device, width: int, rates: Rates = LEAST) -> float:
    """Seconds of the steps in sequence; `width` is the bytes per element."""
    peak, memory = device.fp32 if width == F32 else device.half, device.hbm * rates.memory
    total = 0.0
    for step in steps:
        reached = peak * (rates.attention if step.name == "attention" else rates.matmul)
        least = device.launch * OPERATORS.get(step.name, 1) if rates.launches else 0.0
        total += max(step.flops / reached, step.moved / memory, least)
    return total


def model_flops(job: Job, batch: Batch) -> float:
    """FLOP of a micro-batch in matrix products and convolutions, forward and backward.

    Recomputation, including that of the scores in fused attention, is not counted.
    """
    return _flops(replace(job, recompute=False, fused=False), batch)


@lru_cache(maxsize=64)  # the same for every layout
def _flops(job: Job, batch: Batch) -> float:
    return training(job, batch).flops


def all_reduce(size: float, members: int, within_server: bool, device: Device, rates: Rates = LEAST) -> float:
    """Seconds of a ring all-reduce (Patarasuk & Yuan 2009)."""
    if members < 2:
        return 0.0
    link = (device.link if within_server else device.network) * rates.links
    return 2 * (members - 1) / members * size / link


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
    rates: Rates = LEAST,
) -> float:
    """Seconds of an optimizer step on the devices of the slowest pipeline stage.

    Parameters
    ----------
    tape : of a micro-batch of that stage, with the update at its end.
    micro : micro-batches of a step.
    shared : bytes from `shared_layers`.
    learned : bytes of gradients on a device.
    """
    end = tape.update_steps
    work = roofline(tape.steps[:end], device, job.width, rates)
    work += all_reduce(shared, model_parallel, model_parallel <= NODE, device, rates)
    within = data_parallel * model_parallel * stages <= NODE
    reduction = all_reduce(learned, data_parallel, within, device, rates)
    return (micro + stages - 1) * work + reduction + roofline(tape.steps[end:], device, job.width, rates)
