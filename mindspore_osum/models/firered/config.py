"""Sizes of FireRedASR's Conformer encoder; does not import MindSpore."""

from dataclasses import dataclass

STRIDE = 4  # fbank frames of an encoder frame
RIGHT_CONTEXT = 6  # zero frames that the convolutions see behind a recording
MAX_FRAMES = 5000  # encoder frames that the published table of relative positions reaches: 200 s


def convolved(size: int) -> int:
    """Frames or bins that each of the two first convolutions leaves of so many: kernel 3, stride 2."""
    return (size - 1) // 2


@dataclass(frozen=True)
class FireRedConfig:
    """FireRedASR's encoder (Xu et al. 2025, section 2); defaults are those of FireRedASR-AED-L and -LLM-L."""

    kind: str = "firered"  # tells it from other encoders in a model's config.json
    n_mels: int = 80  # bins of the Kaldi fbank
    d_model: int = 1280  # width
    n_layers: int = 16
    n_heads: int = 20
    d_ff: int = 5120  # inner width of the feed-forwards
    conv_channels: int = 32  # of the two convolutions that reduce the frame rate
    kernel: int = 33  # frames of the depthwise convolutions, odd
    norm_eps: float = 1e-5

    @property
    def pad_to_seconds(self) -> float:
        """Recordings are not padded."""
        return 0.0

    @property
    def stride(self) -> int:
        """Fbank frames of an encoder frame."""
        return STRIDE

    @property
    def most(self) -> int:
        """Fbank frames of the longest recording."""
        return STRIDE * MAX_FRAMES

    def frames(self, mel_frames):
        """Number of encoder frames for a number of fbank frames (int or array): a quarter, rounded up."""
        return -(-mel_frames // STRIDE)

    @property
    def bands(self) -> int:
        """Frequency bands that the two convolutions leave of `n_mels`."""
        return convolved(convolved(self.n_mels))


ENCODERS = {"firered-l": FireRedConfig()}
