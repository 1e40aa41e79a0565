"""Sizes of the projector; does not import MindSpore."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProjectorConfig:
    """A convolution whose kernel is its stride, and two linear layers."""

    stride: int = 4  # encoder frames of a speech token: the convolution's kernel and stride
    d_hidden: int = 2048  # inner width of the linear layers

    def tokens(self, frames):
        """Number of speech tokens for a number of encoder frames (int or array); the last one may be of
        fewer frames than the others."""
        return -(-frames // self.stride)

    @property
    def frames_per_token(self) -> int:
        """Encoder frames per speech token."""
        return self.stride
