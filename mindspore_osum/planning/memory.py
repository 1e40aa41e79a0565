"""Memory of a device by part, for training and for answering.

Notable choices
- What parameters take is counted from their shapes, exactly; what a step holds beside comes from the tape.
- Moments are float32, and so are AdamW's copies of 16-bit weights (training/adamw.py).
- A micro-batch that waits in a pipeline holds its activations: stage s of p waits for p - s of them.
"""

import math
import re
from dataclasses import dataclass

from ckpt_convert.shapes import Shapes, expected_shapes
from mindspore_osum.planning.network import Batch, Job, Network, Part
from mindspore_osum.planning.operators import F32
from mindspore_osum.planning.tape import ACTIVATION, Tape
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.training.config import part_of

MARGIN = 0.15  # of what is not parameters: what measured peaks may lie above the model
# HCCL_BUFFSIZE, 200 MB by default, to send and to receive, of each group of devices (CANN, HCCL guide)
GROUP_BUFFERS = 2 * 200 * 10**6
HEAD_MULTIPLE = 16  # models/ops/fused.py pads heads to it
CAUSAL_TRIANGLE = 2048**2  # bytes of its constant for prefill, in each layer


@dataclass(frozen=True)
class Stage:
    """A device's place in a pipeline, and its share of each layer."""

    model_parallel: int = 1
    stages: int = 1
    index: int = 0

    def layers(self, count: int) -> range:
        """Decoder layers of this stage; the first stages take the fewer ones, they have the encoder."""
        return range(self.index * count // self.stages, (self.index + 1) * count // self.stages)

    def part(self, model: ModelConfig) -> Part:
        layers = self.layers(model.decoder.n_layers)
        return Part(self.model_parallel, len(layers), self.index == 0, self.index == self.stages - 1)


WHOLE = Stage()


def parameters(job: Job, stage: Stage = WHOLE) -> Shapes:
    """Name -> shape of the parameters of a device, the CTC head included; shared matrices are divided."""
    shapes = dict(expected_shapes(job.model))
    if job.ctc_at:
        width = (job.model.decoder if job.ctc_at == "adapter" else job.model.encoder).d_model
        shapes |= {"ctc.weight": (job.ctc_vocab + 1, width), "ctc.bias": (job.ctc_vocab + 1,)}
    here = {name: shape for name, shape in shapes.items() if _is_here(name, job.model, stage)}
    mp = stage.model_parallel
    return {
        n: (-(-s[0] // mp), *s[1:]) if len(s) > 1 and mp > 1 and "lora_A" not in n else s
        for n, s in here.items()
    }


def _is_here(name: str, model: ModelConfig, stage: Stage) -> bool:
    if number := re.match(r"decoder\.model\.layers\.(\d+)\.", name):
        return int(number[1]) in stage.layers(model.decoder.n_layers)
    if name.startswith(("decoder.lm_head", "decoder.model.norm")):
        return stage.index == stage.stages - 1
    return stage.index == 0


def training_memory(
    job: Job, batch: Batch, accumulation: int = 1, stage: Stage = WHOLE, groups: int = 0
) -> tuple[dict[str, int], Tape]:
    """Bytes of a device by part, and the tape of its last micro-batch.

    Parameters
    ----------
    accumulation : micro-batches of a step; above 1 their gradients are summed in parameters.
    groups : groups of devices it communicates in.
    """
    shapes = parameters(job, stage)
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    lora = sum(n for name, n in counts.items() if part_of(name) == "lora")
    learned = sum(n for name, n in counts.items() if part_of(name) in job.learn)
    tape = Network(job, stage.part(job.model)).training(batch)
    step = tape.peak()
    waiting = min(stage.stages - stage.index, accumulation) - 1
    parts = {
        "weights": (sum(counts.values()) - lora) * job.width,
        "LoRA": lora * job.width,
        "moments": 2 * F32 * learned,
        "float32 copies": F32 * learned if job.width != F32 else 0,
        "summed gradients": job.width * learned if accumulation > 1 else 0,
        "inputs": inputs(job.model, batch),
        **step,
        "kernels": tape.tables,
        "groups": groups * GROUP_BUFFERS,
    }
    parts[ACTIVATION] += waiting * tape.kept
    return parts, tape


def inputs(model: ModelConfig, batch: Batch) -> int:
    """Bytes of a batch as the loader gives it."""
    mel = batch.audio_rows * batch.frames * model.encoder.n_mels
    return F32 * (mel + batch.rows * (6 * batch.length + batch.ctc_labels + 4))


def inference_memory(job: Job, batch: Batch, places: int) -> tuple[dict[str, int], Tape, Tape]:
    """Bytes of a device by part, and the tapes of prefill and of a decoding step.

    Parameters
    ----------
    batch : the prompts.
    places : of the key/value cache of each row.
    """
    dec, counts = job.model.decoder, {n: math.prod(s) for n, s in expected_shapes(job.model).items()}
    lora = sum(n for name, n in counts.items() if part_of(name) == "lora")
    head = dec.head_dim + (-dec.head_dim % HEAD_MULTIPLE if job.fused else 0)
    prefill, step = Network(job).prefill(batch), Network(job).decoding(batch.rows, places)
    peak = max((tape.peak() for tape in (prefill, step)), key=lambda parts: sum(parts.values()))
    parts = {
        "weights": (sum(counts.values()) - lora) * job.width,
        "LoRA": lora * job.width,
        "KV cache": 2 * dec.n_layers * batch.rows * places * dec.n_kv_heads * head * job.width,
        "penalties": batch.rows * dec.vocab_size * F32,
        "inputs": inputs(job.model, batch),
        "constants": dec.n_layers * CAUSAL_TRIANGLE if job.fused else 0,
        "workspace": sum(peak.values()),
        "kernels": prefill.tables + step.tables,
    }
    return parts, prefill, step
