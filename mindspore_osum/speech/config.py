"""Configuration of a model's features; imports no heavy library."""

from dataclasses import dataclass

SAMPLE_RATE = 16_000
"""Hz; the rate of every waveform inside this package."""
LOG_MEL, FBANK = "log_mel", "fbank"


@dataclass(frozen=True)
class FeatureConfig:
    """The features of a model; the defaults are those of OSUM and Whisper."""

    n_mels: int = 80  # bands: 80, or 128 as in Whisper large-v3
    pad_to_seconds: float = 0.0  # shorter recordings are padded with zeros: 30 for stock Whisper, 0 for OSUM
    sample_rate: int = SAMPLE_RATE  # Hz
    hop: int = 160  # samples from one frame to the next (10 ms)
    n_fft: int = 400  # samples of the periodic Hann window and points of the DFT (25 ms)
    kind: str = LOG_MEL  # Whisper's log-mel, or "fbank": Kaldi's, with its own window of `n_fft` samples

    def frames(self, samples: int) -> int:
        """Number of frames of a waveform; 1, centred on sample 0, if it is shorter than a hop.

        Of Kaldi's fbank: of whole windows, and 1 of a waveform that is shorter than a window.
        """
        if self.kind == FBANK:
            return max(1, 1 + (samples - self.n_fft) // self.hop)
        return max(1, samples // self.hop)

    def seconds(self, frames):
        """Duration of a number of frames, rounded once."""
        return frames * self.hop / self.sample_rate

    def frames_in(self, seconds: float) -> int:
        """The number of frames nearest to a duration."""
        return round(seconds * (self.sample_rate / self.hop))

    @property
    def padding(self) -> int:
        """Number of frames of `pad_to_seconds`, the shortest features."""
        return self.frames(round(self.pad_to_seconds * self.sample_rate))


FEATURES = FeatureConfig()
"""Those of the published systems, where no model says otherwise."""
