"""Encoder, adapter and speech marks: recordings to embeddings; MindSpore alone, no vLLM.

Legend: T mel frames, F mel bins, Z speech tokens, D decoder width.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from mindspore_osum.models.adapters.kinds import module_of
from mindspore_osum.models.buckets import frame_bucket
from mindspore_osum.models.layers import Embedding
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.keys import MARKS
from mindspore_osum.systems.speech_network import SpeechModel

PARTS = ("encoder.", "adapter.", "speech_token_embed.")
"""Prefixes of its parameters in an exported folder."""


def positions_of(cfg: ModelConfig, frames: int) -> int:
    """Positions of a recording in a sequence: its tokens between begin and end."""
    return cfg.tokens(frames) + MARKS


class SpeechTower(SpeechModel):
    """The parts of the model that hear, with the parameters' names of the exported folder."""

    def __init__(self, cfg: ModelConfig, dtype=ms.float32):
        super().__init__()
        self.cfg = cfg
        self.encoder = WhisperEncoder(cfg.encoder, dtype)
        self.adapter = module_of(cfg.adapter.kind, "network").Adapter(
            cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter, dtype
        )
        self.speech_token_embed = Embedding(cfg.speech_token_num + MARKS, cfg.decoder.d_model, dtype)

    def construct(self, mel_1TF, mel_len_1):
        """(1, T, F) log-mel and its length -> begin, all Z tokens of T frames, end: (2 + Z, D)."""
        z_1ZD, _ = self.encode_speech(mel_1TF, mel_len_1)
        first = self.cfg.speech_token_num
        marks_2D = self.speech_token_embed.weight[first : first + 2]
        return ops.concat((marks_2D[:1], z_1ZD[0], marks_2D[1:]), 0)


class Recordings:
    """Embeds recordings by graphs of few static shapes, one recording at a time."""

    def __init__(self, tower: SpeechTower):
        self.tower = tower.set_train(False)
        self.graph = ms.jit(tower, jit_level="O0")

    def __call__(self, mels: Sequence[np.ndarray]) -> list[Tensor]:
        """(T, F) log-mels -> for each its (2 + Z, D) embeddings: begin, tokens, end.

        Raises
        ------
        ValueError : longer than the model takes.
        """
        return [self._one(mel_TF) for mel_TF in mels]

    def _one(self, mel_TF: np.ndarray) -> Tensor:
        cfg, frames = self.tower.cfg, len(mel_TF)
        check_frames(cfg, frames)
        padded_1TF = np.zeros((1, frame_bucket(cfg, frames), mel_TF.shape[1]), np.float32)
        padded_1TF[0, :frames] = mel_TF
        rows_ZD = self.graph(Tensor(padded_1TF), Tensor([frames], ms.int32))
        z = cfg.tokens(frames)
        return ops.concat((rows_ZD[: 1 + z], rows_ZD[-1:]), 0)


def check_frames(cfg: ModelConfig, frames: int) -> None:
    """ValueError, which vLLM's server answers with 400, for a recording that is too long."""
    if frames > cfg.most_frames:
        seconds = cfg.features.seconds
        raise ValueError(
            f"the recording has {seconds(frames):.1f} s, this model takes at most "
            f"{seconds(cfg.most_frames):g} s; split it at a pause"
        )
