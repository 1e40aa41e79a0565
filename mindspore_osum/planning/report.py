"""A plan as plain values: memory and time of a job in each layout, and of answering."""

import math
from dataclasses import asdict, replace

from mindspore_osum.models.buckets import SMALLEST_FRAMES, SMALLEST_LENGTH, batch_bucket, bucket
from mindspore_osum.planning.layouts import gigabytes
from mindspore_osum.planning.memory import MARGIN, inference_memory, parameters
from mindspore_osum.planning.programs import cost_of
from mindspore_osum.planning.roofline import model_flops, roofline
from mindspore_osum.systems.registry import system_of


def report(cfg, job, batch, choices, limit: int) -> dict:
    """The plan of training as plain values: bytes, seconds, FLOP.

    Parameters
    ----------
    cfg : the job as configured. job : its computation.
    batch : the most expensive batch.
    choices : layouts with memory and time, the best first.
    limit : bytes of memory of a device.
    """
    part_of = system_of(job.model.model_type).job.part_of
    sizes: dict[str, int] = {}
    for name, shape in parameters(job).items():
        sizes[part_of(name)] = sizes.get(part_of(name), 0) + math.prod(shape)
    micro = model_flops(job, batch)
    seconds = job.model.features.seconds(batch.frames) if batch.audio_rows else 0.0  # of a recording
    return {
        "limit": limit,
        "margin": MARGIN,
        "dtype": job.model.dtype,
        "operators": "fused" if job.fused else "plain",
        "parameters": sizes,
        "learn": sorted(job.learn),
        "batch": asdict(batch) | {"seconds": seconds},
        "micro_batches": cfg.accumulation,
        "flops_a_micro_batch": micro,
        "choices": [
            {
                "layout": str(c.layout),
                **asdict(c.layout),
                "memory": c.memory,
                "total": c.total,
                "needed": c.needed,
                "fits": c.needed <= limit,
                "obstacle": c.obstacle,
                "step_seconds": c.seconds,
                "utterances_a_second": c.utterances,
                "mfu": c.mfu,
            }
            for c in choices
        ],
        "best": str(choices[0].layout),
        "reason": reason(choices, limit),
    }


def reason(choices, limit: int) -> str:
    """The reason why the first choice is the best."""
    best, *others = choices
    spare = gigabytes(limit - best.needed)
    words = [f"{best.layout}: the model fits a device as it is with {spare} to spare"]
    words.append("data parallel alone exchanges nothing but gradients, once a step")
    faster = [c for c in others if c.needed <= limit and c.utterances > best.utterances]
    if faster:
        top = max(faster, key=lambda c: c.utterances)
        words.append(
            f"{top.layout} would do {top.utterances / best.utterances:.2f} times as much a second "
            f"({top.obstacle.partition(':')[0]})"
        )
    return "; ".join(words)


def inference(job, batch, rows: int, new: int, device, limit: int) -> dict:
    """Memory and minimum times for answering `rows` recordings of the batch together, `new` tokens each."""
    rows = batch_bucket(rows)
    frames = bucket(batch.frames, SMALLEST_FRAMES) if batch.audio_rows else 0
    length = bucket(min(batch.length, cost_of(job.model).longest(job.model)), SMALLEST_LENGTH)
    places = bucket(length + new, SMALLEST_LENGTH)
    prompts = replace(batch, rows=rows, audio_rows=rows if frames else 0, frames=frames, length=length)
    answering = replace(job, learn=frozenset(), dropout=False)
    memory, prefill, step = inference_memory(answering, prompts, places)
    seconds = roofline(step.steps, device, job.width)
    return {
        "rows": rows,
        "prompt": length,
        "places": places,
        "memory": memory,
        "total": sum(memory.values()),
        "fits": sum(memory.values()) <= limit,
        "prefill_seconds": roofline(prefill.steps, device, job.width),
        "step_seconds": seconds,
        "tokens_a_second": rows / seconds,
    }
