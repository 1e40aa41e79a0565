"""Sizes of Whisper's encoder and text decoder; does not import MindSpore.

Named ones: Radford et al. 2022, Table 1.
"""

from dataclasses import dataclass

STRIDE = 2  # mel frames of an encoder frame
MAX_FRAMES = 3000  # encoder frames in the positional table: 60 s


@dataclass(frozen=True)
class EncoderConfig:
    """Whisper encoder (Radford et al. 2022); defaults are Whisper-medium."""

    n_mels: int = 80  # mel bins of the log-mel front end: 80, or 128 for large-v3
    d_model: int = 1024  # width
    n_layers: int = 24
    n_heads: int = 16
    d_ff: int = 4096  # inner width of the feed-forward
    norm_eps: float = 1e-5
    dropout: float = 0.0  # on the residual branches, in training only
    pad_to_seconds: float = (
        0.0  # audio is padded to this many seconds before the log-mel; 0 = published OSUM, 30 = stock Whisper
    )

    @property
    def stride(self) -> int:
        """Mel frames of an encoder frame."""
        return STRIDE

    @property
    def most(self) -> int:
        """Mel frames of the longest recording."""
        return STRIDE * MAX_FRAMES

    def frames(self, mel_frames):
        """Number of encoder frames for a number of mel frames (int or array): half of it, rounded up."""
        return -(-mel_frames // STRIDE)


@dataclass(frozen=True)
class TextDecoderConfig:
    """Whisper's text decoder (Radford et al. 2022); defaults are Whisper-medium, multilingual."""

    vocab_size: int = 51865
    d_model: int = 1024  # width, that of the encoder
    n_layers: int = 24
    n_heads: int = 16
    d_ff: int = 4096  # inner width of the feed-forward
    max_positions: int = 448  # of prompt and answer together
    norm_eps: float = 1e-5
    eos_id: int = 50257  # ends an answer; the first of the special tokens


ENCODERS = {
    "tiny": EncoderConfig(d_model=384, n_layers=4, n_heads=6, d_ff=1536),
    "base": EncoderConfig(d_model=512, n_layers=6, n_heads=8, d_ff=2048),
    "small": EncoderConfig(d_model=768, n_layers=12, n_heads=12, d_ff=3072),
    "medium": EncoderConfig(),
    "large-v3": EncoderConfig(n_mels=128, d_model=1280, n_layers=32, n_heads=20, d_ff=5120),
}
