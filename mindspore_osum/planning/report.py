"""A plan as plain values: memory and time of a job in each layout, and of answering."""

import math
from dataclasses import asdict, replace

from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket, frame_bucket
from mindspore_osum.planning.hardware import Device, max_device_memory
from mindspore_osum.planning.job import Batch
from mindspore_osum.planning.layouts import gigabytes
from mindspore_osum.planning.memory import MARGIN, inference_memory, parameters
from mindspore_osum.planning.programs import cost_of
from mindspore_osum.planning.roofline import LIKELY, launches, model_flops, roofline
from mindspore_osum.systems.base import System
from mindspore_osum.systems.registry import system_of


def report(cfg, job, batch, choices, limit: int) -> dict:
    """The plan of training as plain values: bytes, seconds, FLOP.

    Parameters
    ----------
    cfg : the job as configured. job : its computation.
    batch : the most expensive batch.
    choices : layouts with memory and time, the best first.
    limit : bytes that a job may take of a device.
    """
    micro = model_flops(job, batch)
    seconds = job.model.features.seconds(batch.frames) if batch.audio_rows else 0.0  # of a recording
    return {
        "limit": limit,
        "margin": MARGIN,
        **model_facts(job),
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
                "likely_seconds": c.likely,
                "launches": c.launches,
                "utterances_a_second": c.utterances,
                "mfu": c.mfu,
            }
            for c in choices
        ],
        "best": str(choices[0].layout),
        "reason": reason(choices, limit),
        "settings": settings(choices[0].layout, limit),
    }


def model_facts(job) -> dict:
    """Type and operators of a model, and the numbers of its parameters by part."""
    part_of = system_of(job.model.model_type).part_of
    sizes: dict[str, int] = {}
    for name, shape in parameters(job).items():
        sizes[part_of(name)] = sizes.get(part_of(name), 0) + math.prod(shape)
    return {
        "dtype": job.model.dtype,
        "operators": "fused" if job.fused else "plain",
        "parameters": sizes,
    }


def device_facts(device: Device, memory: int) -> dict:
    """A device's numbers, and what of its memory is not the job's."""
    pool = device.pool(memory)
    parts = {"driver": device.driver, "runtime": device.context}
    parts["HCCL and others"] = memory - pool - sum(parts.values())
    return asdict(device) | {"memory": memory, "reserved": parts, "pool": pool}


def settings(layout, limit: int) -> dict:
    """What the job's YAML must say for this layout to be as planned."""
    found: dict = {"context": {"max_device_memory": max_device_memory(limit)}}
    if layout.recompute:
        found["recompute_config"] = {"recompute": True}
    if layout.sharded:
        ways = {"data_parallel": layout.data, "model_parallel": layout.model, "pipeline_stage": layout.stages}
        found |= {"parallel": {"parallel_mode": 1}, "parallel_config": ways}
    return found


def reason(choices, limit: int) -> str:
    """The reason why the first choice is the best."""
    best, *others = choices
    spare, layout = gigabytes(limit - best.needed), best.layout
    if layout.sharded:
        words = [
            f"{layout}: sharded, the model fits with {spare} to spare, and whole it does not",
            "sharding takes semi-automatic parallel, which ends with MindSpore 2.11: a smaller batch.size "
            "or devices with more memory are safer",
        ]
    else:
        again = "and its layers recomputed, " if layout.recompute else ""
        words = [f"{layout}: the model is whole on each device, {again}with {spare} to spare"]
        words += ["data parallel exchanges nothing but gradients, once a step"] * (layout.data > 1)
    if not layout.sharded and (faster := [c for c in others if _fits_faster(c, best, limit)]):
        top = max(faster, key=lambda c: c.utterances)
        why = top.obstacle.partition(":")[0] or "semi-automatic parallel, which ends with MindSpore 2.11"
        words.append(f"{top.layout} would do {top.utterances / best.utterances:.2f} times as much ({why})")
    return "; ".join(words)


def _fits_faster(choice, best, limit: int) -> bool:
    return choice.needed <= limit and choice.utterances > best.utterances


def prompt_of(model, seconds: float, request: int = 64) -> Batch:
    """A prompt with a recording of this length, and a request of so many tokens."""
    frames = model.features.frames_in(max(seconds, model.features.pad_to_seconds))
    return Batch(1, 1, frames, len(system_of(model.model_type).example(model, frames, request)), 1)


def inference(job, batch, rows: int, new: int, device, limit: int) -> dict:
    """Memory and times for answering `rows` recordings of the batch together, `new` tokens each.

    As `osum infer` does, and as the three graphs of `osum export`, which copy the cache and hold the
    decoder's weights twice unless the runtime shares them.
    """
    rows = batch_bucket(rows)
    frames = frame_bucket(job.model, batch.frames) if batch.audio_rows else 0
    length = bucket(min(batch.length, cost_of(job.model).longest(job.model)), SMALLEST_LENGTH)
    places = bucket(length + cost_of(job.model).answer_tokens(job.model, new), SMALLEST_LENGTH)
    prompts = replace(batch, rows=rows, audio_rows=rows if frames else 0, frames=frames, length=length)
    answering = replace(job, learn=frozenset(), dropout=False)
    memory, prefill, step = inference_memory(answering, prompts, places)
    total, likely = sum(memory.values()), roofline(step.steps, device, job.width, LIKELY)
    sizes = model_facts(answering)["parameters"]
    twice = (sizes.get("decoder", 0) + sizes.get("lora", 0)) * job.width
    exported = total + memory.get("KV cache", 0)
    if type(system_of(job.model.model_type)).export is System.export:
        exported = None  # which refuses
    return {
        "rows": rows,
        "prompt": length,
        "places": places,
        "memory": memory,
        "total": total,
        "fits": total <= limit,
        "exported": None if exported is None else exported + twice,
        "exported_shared": exported,
        "prefill_seconds": roofline(prefill.steps, device, job.width),
        "likely_prefill_seconds": roofline(prefill.steps, device, job.width, LIKELY),
        "step_seconds": roofline(step.steps, device, job.width),
        "likely_step_seconds": likely,
        "launches": launches(step.steps),
        "tokens_a_second": rows / likely,
    }
