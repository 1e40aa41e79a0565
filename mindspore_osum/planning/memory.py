"""Memory of a device by part, for training and for answering.

Notable choices
- Memory of parameters is exact, from their shapes; other memory of a step comes from the tape.
- Moments are float32, and so are AdamW's copies of 16-bit weights (training/adamw.py).
- Dropout's tables on Ascend hold a bit per element, or a byte where cells are sharded (models/dropout.py).
- Each micro-batch in flight in a pipeline keeps its activations: stage s of p has p - s of them.
"""

import math

from mindspore_osum.models.table import Shapes
from mindspore_osum.planning.job import WHOLE, Batch, Job, Stage
from mindspore_osum.planning.programs import cost_of, decoding, prefill, training
from mindspore_osum.planning.tape import ACTIVATION, F32, Tape
from mindspore_osum.systems.registry import system_of

MARGIN = 0.15  # of the memory that is not parameters: measured peaks may exceed the model by this
# HCCL_BUFFSIZE, 200 MB by default, for sending and for receiving, per group of devices (CANN, HCCL guide)
GROUP_BUFFERS = 2 * 200 * 10**6
DROPOUT_ROWS, DROPOUT_NUMBERS = 1 << 15, 1 << 17  # of a table; row numbers of a step (models/dropout.py)


def parameters(job: Job, stage: Stage = WHOLE) -> Shapes:
    """Name -> shape of the parameters on a device, with those of losses; sharded matrices are divided."""
    cost, mp = cost_of(job.model), stage.model_parallel
    shapes = system_of(job.model.model_type).shapes(job.model) | cost.extra_shapes(job)
    layers = stage.layers(cost.depth(job.model))
    here = {name: shape for name, shape in shapes.items() if cost.layer_of(name, job.model) in layers}
    return {
        n: (-(-s[0] // mp), *s[1:]) if len(s) > 1 and mp > 1 and "lora_A" not in n else s
        for n, s in here.items()
    }


def training_memory(
    job: Job, batch: Batch, accumulation: int = 1, stage: Stage = WHOLE, groups: int = 0
) -> tuple[dict[str, int], Tape]:
    """Training memory of a device in bytes by part, and the tape of its last micro-batch.

    Parameters
    ----------
    accumulation : micro-batches of a step; above 1 their gradients are summed in parameters.
    groups : communication groups of the device.
    """
    part_of = system_of(job.model.model_type).job.part_of
    shapes = parameters(job, stage)
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    lora = sum(n for name, n in counts.items() if part_of(name) == "lora")
    learned = sum(n for name, n in counts.items() if part_of(name) in job.learn)
    tape = training(job, batch, stage)
    step = tape.peak()
    waiting = min(stage.stages - stage.index, accumulation) - 1
    parts = {
        "weights": (sum(counts.values()) - lora) * job.width,
        "LoRA": lora * job.width,
        "moments": 2 * F32 * learned,
        "float32 copies": F32 * learned if job.width != F32 else 0,
        "summed gradients": F32 * learned if accumulation > 1 else 0,
        "inputs": F32 * cost_of(job.model).input_numbers(job.model, batch),
        **step,
        "kernels": tape.tables,
        "dropout tables": dropout_tables(tape, stage),
        "groups": groups * GROUP_BUFFERS,
    }
    parts[ACTIVATION] += waiting * tape.kept
    return parts, tape


def dropout_tables(tape: Tape, stage: Stage) -> int:
    """Bytes of the masks that dropout takes on Ascend, and of the row numbers of a step."""
    if not tape.dropout:
        return 0
    sharded = stage.model_parallel * stage.stages > 1
    columns = sum(width // 8 if width % 128 == 0 and not sharded else width for width, _ in tape.dropout)
    return DROPOUT_ROWS * columns + DROPOUT_NUMBERS * F32


def inference_memory(job: Job, batch: Batch, slots: int) -> tuple[dict[str, int], Tape, Tape]:
    """Memory of a device for answering in bytes by part, and the tapes of prefill and of a decode step.

    Parameters
    ----------
    batch : the prompts.
    slots : KV cache slots of each row.
    """
    cost, model = cost_of(job.model), job.model
    system = system_of(model.model_type)
    part_of = system.part_of
    counts = {name: math.prod(shape) for name, shape in system.shapes(model).items()}
    lora = sum(n for name, n in counts.items() if part_of(name) == "lora")
    prompts, step = prefill(job, batch), decoding(job, batch.rows, slots)
    peak = max((tape.peak() for tape in (prompts, step)), key=lambda parts: sum(parts.values()))
    parts = {
        "weights": (sum(counts.values()) - lora) * job.width,
        "LoRA": lora * job.width,
        **cost.state_bytes(model, batch.rows, slots, job.width, job.fused),
        "inputs": F32 * cost.input_numbers(model, batch),
        "constants": cost.constant_bytes(model, job.fused),
        "workspace": sum(peak.values()),
        "kernels": prompts.tables + step.tables,
    }
    return parts, prompts, step
