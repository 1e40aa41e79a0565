"""Inputs of the planner: a job's model and computation, its batches, and a device's share.

Legend: B rows, T mel frames, L positions, M positions with logits, S CTC labels.
"""

from dataclasses import dataclass

from mindspore_osum.data.batches.batching import Shape
from mindspore_osum.planning.tape import F32
from mindspore_osum.systems.config import Config


@dataclass(frozen=True)
class Batch:
    """Sizes of one micro-batch on a device."""

    rows: int  # B
    audio_rows: int  # rows of mel frames; 0 for text only
    frames: int  # T of each
    length: int  # L
    logits: int  # M of each row
    ctc_labels: int = 0  # S; 0 without CTC


def padded(shape: Shape, speech: bool, ctc: bool = False) -> Batch:
    """The batch of a static shape, as the input of training/network.py."""
    logits = shape.text_tokens if speech else shape.length - 1
    return Batch(
        shape.size,
        shape.size if speech else 0,
        shape.frames,
        shape.length,
        logits,
        shape.text_tokens if ctc and speech else 0,
    )


def packed(rows: int, tokens: int, longest: Shape, ctc: bool = False) -> Batch:
    """Packs filled with the longest recordings: the maximum content of a pack."""
    audio = rows * max(1, tokens // longest.length) if longest.frames > 2 else 0
    return Batch(rows, audio, longest.frames, tokens, tokens - 1, longest.text_tokens if ctc and audio else 0)


@dataclass(frozen=True)
class Job:
    """The computation on a batch."""

    model: Config
    learn: frozenset[str]
    fused: bool  # Ascend's fused operators, else the plain ones for CPU
    recompute: bool = False  # each Transformer layer is recomputed in the backward pass
    ctc_at: str = ""  # "encoder" or "adapter"
    ctc_only: bool = False
    ctc_vocab: int = 0
    smoothing: bool = False  # of the targets of the cross-entropy
    all_text: bool = False  # labels may be at any position, not only at the end
    dropout: bool = True

    @property
    def width(self) -> int:
        """Bytes per element."""
        return F32 if self.model.dtype == "float32" else 2


@dataclass(frozen=True)
class Stage:
    """A device's pipeline stage, and its share of each layer."""

    model_parallel: int = 1  # heads, inner widths and vocabulary are divided by it
    stages: int = 1
    index: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the first stage, which computes the input of the layers."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """Whether this is the last stage, which computes the loss."""
        return self.index == self.stages - 1

    def layers(self, count: int) -> range:
        """The layers (of `count`) in this stage; if uneven, the first stages have fewer."""
        return range(self.index * count // self.stages, (self.index + 1) * count // self.stages)


WHOLE = Stage()
