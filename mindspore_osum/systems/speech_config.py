"""What follows from the sizes of an encoder and an adapter; imports neither MindSpore nor PyTorch."""

import dataclasses
from typing import Any

from mindspore_osum.speech.config import FeatureConfig


class SpeechConfig:
    """Base of the dataclasses that describe models with an encoder, an adapter and a decoder.

    Attributes
    ----------
    encoder : with `n_mels`, `pad_to_seconds`, `stride`, `most` and `frames`.
    adapter : with `frames_per_token` and `tokens`.
    """

    encoder: Any
    adapter: Any

    @property
    def features(self) -> FeatureConfig:
        """Settings of the log-mel front end."""
        return FeatureConfig(self.encoder.n_mels, self.encoder.pad_to_seconds)

    def tokens(self, frames):
        """Number of speech tokens for a number of mel frames (int or array)."""
        return self.adapter.tokens(self.encoder.frames(frames))

    @property
    def frames_per_token(self) -> int:
        """Mel frames per speech token."""
        return self.encoder.stride * self.adapter.frames_per_token

    @property
    def seconds_per_token(self) -> float:
        """Duration of a speech token."""
        return self.features.seconds(self.frames_per_token)

    @property
    def most_frames(self) -> int:
        """Mel frames of the longest recording that the model takes at once."""
        return self.encoder.most

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, as saved in config.json together with `model_type`."""
        return dataclasses.asdict(self)
