"""What is planned: a job's model and what it computes, the batches it computes it on, a device's share.

Legend: B rows, T mel frames, L positions, M positions with logits, S CTC labels.
"""

from dataclasses import dataclass

from mindspore_osum.data.batches.batching import Shape
from mindspore_osum.planning.tape import F32
from mindspore_osum.systems.base import Config


@dataclass(frozen=True)
class Batch:
    """What one micro-batch on a device holds."""

    rows: int  # B
    audio_rows: int  # rows of mel frames; 0 for text alone
    frames: int  # T of each
    length: int  # L
    logits: int  # M of each row
    ctc_labels: int = 0  # S; 0 without CTC


def padded(shape: Shape, speech: bool, ctc: bool = False) -> Batch:
    """The batch of a static shape: as training/network.py takes it."""
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
    """Packs full of the longest recordings: what a pack may hold at most."""
    audio = rows * max(1, tokens // longest.length) if longest.frames > 2 else 0
    return Batch(rows, audio, longest.frames, tokens, tokens - 1, longest.text_tokens if ctc and audio else 0)


@dataclass(frozen=True)
class Job:
    """What is computed on a batch."""

    model: Config
    learn: frozenset[str]
    fused: bool  # Ascend's fused operators, else the plain ones of CPU
    recompute: bool = False  # each Transformer layer again in the backward pass
    ctc_at: str = ""  # "encoder" or "adapter"
    ctc_only: bool = False
    ctc_vocab: int = 0
    dropout: bool = True

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return F32 if self.model.dtype == "float32" else 2


@dataclass(frozen=True)
class Stage:
    """A device's stage of a pipeline, and its share of each layer."""

    model_parallel: int = 1  # heads, inner widths and vocabulary are divided by it
    stages: int = 1
    index: int = 0

    @property
    def first(self) -> bool:
        """What makes the input of the layers is here."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """What comes after the layers is here, the loss too."""
        return self.index == self.stages - 1

    def layers(self, count: int) -> range:
        """Those of `count` layers that are in this stage; the first stages take the fewer ones."""
        return range(self.index * count // self.stages, (self.index + 1) * count // self.stages)


WHOLE = Stage()
