"""What an OSUM model answers from; loads no MindSpore.

Legend: T mel frames, F mel bins.
"""

from dataclasses import dataclass

import numpy as np

from mindspore_osum.text.sequence import HybridSequence


@dataclass(frozen=True)
class Prompt:
    """What an answer starts from: the hybrid sequence, and the log-mel of its speech, float32, if any."""

    sequence: HybridSequence
    mel_TF: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    def __str__(self) -> str:
        return f"prompt of {len(self)} positions ({self.sequence.n_speech} of speech)"
