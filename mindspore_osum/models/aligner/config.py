"""Sizes of the linear aligner; does not import MindSpore."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AlignerConfig:
    """Means of encoder frames, then one linear layer."""

    frames_per_token: int = 1  # encoder frames that are averaged; published 1, all frames of 30 s
    # outputs of the linear layer; the decoder's other dimensions get zeros (published Table 3). None: all
    dims: int | None = None

    def tokens(self, frames):
        """Number of speech tokens for a number of encoder frames (int or array)."""
        return -(-frames // self.frames_per_token)
