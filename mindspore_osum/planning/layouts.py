"""Layouts of a job over devices: memory and time of each, and whether `osum train` can run it."""

import math
from dataclasses import dataclass, replace

from mindspore_osum.errors import UserError
from mindspore_osum.planning.hardware import NODE, Device
from mindspore_osum.planning.job import Batch, Job, Stage, packed, padded
from mindspore_osum.planning.memory import MARGIN, parameters, training_memory
from mindspore_osum.planning.programs import cost_of
from mindspore_osum.planning.roofline import (
    LEAST,
    LIKELY,
    launches,
    model_flops,
    shared_layers,
    step_seconds,
)
from mindspore_osum.planning.tape import ACTIVATION, F32, GRADIENT, WORKSPACE
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training.config import TrainConfig, shapes_of

UNSUPPORTED = "not supported by osum train"


@dataclass(frozen=True)
class Layout:
    """Numbers of devices, and whether layers are recomputed."""

    data: int
    model: int = 1
    stages: int = 1
    recompute: bool = False

    @property
    def sharded(self) -> bool:
        """Whether the model is divided among devices, which takes semi-automatic parallel."""
        return self.model * self.stages > 1

    def __str__(self) -> str:
        words = [f"dp {self.data}", f"mp {self.model}", f"pp {self.stages}"]
        return " ".join(words) + (" recompute" if self.recompute else "")


@dataclass(frozen=True)
class Choice:
    """A layout with its memory and time; memory is that of the device that needs most."""

    layout: Layout
    memory: dict[str, int]  # bytes by part
    seconds: float  # of a step, lower bound
    likely: float  # seconds of a step by the assumptions of roofline.LIKELY
    launches: int  # of a step, on the device that has most
    utterances: float  # per second, of likely steps
    mfu: float  # of likely steps: model FLOP/s over the peak of all devices
    obstacle: str  # why `osum train` cannot run it; "" if it can

    @property
    def total(self) -> int:
        return sum(self.memory.values())

    @property
    def needed(self) -> int:
        """Bytes including the margin for measured peaks above the model."""
        step = sum(self.memory[kind] for kind in (ACTIVATION, GRADIENT, WORKSPACE))
        return int(self.total + MARGIN * step)


def batches_of(cfg: TrainConfig, job: Job) -> list[Batch]:
    """The static shapes of a job, as training/run.py makes them."""
    speech, ctc, shapes = bool(cfg.batch.seconds), bool(job.ctc_at), shapes_of(cfg.batch, job.model)
    if cfg.batch.pack:
        return [packed(cfg.batch.size, cfg.batch.pack, shapes[-1], ctc)]
    return [padded(shape, speech, ctc) for shape in shapes]


def obstacle(cfg: TrainConfig, layout: Layout) -> str:
    """Why training/config.py refuses the job in this layout; "" if it does not."""
    if layout.sharded:
        mode = {**cfg.parallel, "parallel_mode": 1}  # semi-automatic: shards, and has stages
        ways = {"data_parallel": layout.data, "model_parallel": layout.model, "pipeline_stage": layout.stages}
        try:
            replace(cfg, parallel=mode, parallel_config={**cfg.parallel_config, **ways})
        except UserError as error:
            return f"{UNSUPPORTED}: {error}"
    return ""


def layouts(job: Job, devices: int, micro: int) -> list[Layout]:
    """All layouts that the model's sizes and the micro-batches of a step allow."""
    cost, found = cost_of(job.model), []
    heads, depth = cost.head_counts(job.model), cost.depth(job.model)
    for mp in (n for n in range(1, NODE + 1) if devices % n == 0 and not any(h % n for h in heads)):
        rest = devices // mp
        for pp in (n for n in (1, 2, 4, 8) if rest % n == 0 and n <= min(micro, depth)):
            found += [Layout(rest // pp, mp, pp, again) for again in (False, True)]
    return found


def choose(cfg: TrainConfig, job: Job, batch: Batch, layout: Layout, device: Device) -> Choice:
    """Memory and time of a layout for one batch shape."""
    job, stages = replace(job, recompute=layout.recompute), layout.stages
    groups = sum(n > 1 for n in (layout.data, layout.model, stages))
    worst, least, likely, most = {}, 0.0, 0.0, 0
    for index in range(stages):
        stage = Stage(layout.model, stages, index)
        memory, tape = training_memory(job, batch, cfg.accumulation, stage, groups)
        if sum(memory.values()) > sum(worst.values()):
            worst = memory
        shapes = parameters(job, stage)
        part_of = system_of(job.model.model_type).job.part_of
        sizes = {
            "shared": shared_layers(job, batch, stage),
            "learned": sum(math.prod(shapes[n]) for n in shapes if part_of(n) in job.learn) * job.width,
            "data_parallel": layout.data,
            "model_parallel": layout.model,
            "stages": stages,
        }
        times = (
            step_seconds(tape, job, device, cfg.accumulation, rates=rates, **sizes)
            for rates in (LEAST, LIKELY)
        )
        least, likely = map(max, (least, likely), times)
        end, micro = tape.update_steps, cfg.accumulation
        most = max(most, micro * launches(tape.steps[:end]) + launches(tape.steps[end:]))
    done = cfg.accumulation * layout.data
    peak = device.fp32 if job.width == F32 else device.half
    mfu = model_flops(job, batch) * done / (likely * peak * layout.data * layout.model * stages)
    return Choice(layout, worst, least, likely, most, batch.rows * done / likely, mfu, obstacle(cfg, layout))


def ranked(choices: list[Choice], limit: int) -> list[Choice]:
    """The best first: what fits and can run; of these what leaves the model whole, then what is fastest.

    A model that is whole on each device needs no semi-automatic parallel, which ends with MindSpore 2.11.
    """
    return sorted(
        choices, key=lambda c: (c.needed > limit, bool(c.obstacle), c.layout.sharded, -c.utterances)
    )


def remedy(cfg: TrainConfig, job: Job, batch: Batch, devices: int, limit: int, device: Device) -> str:
    """Advice if no layout fits: fewer rows, a layout that is not supported yet, or the memory needed."""
    now, rows = choose(cfg, job, batch, Layout(devices), device), batch.rows
    fits = []
    while rows > 1 and not fits:
        rows //= 2
        share = replace(batch, rows=rows, audio_rows=batch.audio_rows * rows // batch.rows)
        if choose(cfg, job, share, Layout(devices), device).needed <= limit:
            fits.append(f"batch.size {rows}" if not cfg.batch.max_tokens else f"{rows} rows a batch")
    ways = [choose(cfg, job, batch, way, device) for way in layouts(job, devices, cfg.accumulation)]
    if to_come := [c for c in ways if c.obstacle and c.needed <= limit]:
        best = max(to_come, key=lambda c: c.utterances)
        fits.append(f"{best.layout} ({UNSUPPORTED})")
    return ", ".join([*fits, f"{gigabytes(now.needed)} of memory"])


def gigabytes(size: float) -> str:
    """Decimal gigabytes."""
    return f"{size / 1e9:.2f} GB" if size < 10e9 else f"{size / 1e9:.1f} GB"
