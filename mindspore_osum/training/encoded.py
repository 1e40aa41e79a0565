"""Recordings that a frozen encoder reads once: its frames are kept on disk and trained on instead of log-mel.

Notable choices
- A file is named after the log-mel and the encoder's weights, so that it is never out of date, and jobs with
  the same encoder may share a folder. Frames are kept as float16.
- Frames take the slots of the mel frames that they were made of, every `STRIDE`th, so that lengths, columns
  and packs are those of log-mel; `GivenFrames` stands for the encoder in the graph and takes them back out.

Legend: B rows, T mel frames, F mel bins, U encoder frames, E encoder width.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.data.batches.extractor import Extractor, Scanned
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing
from mindspore_osum.models.buckets import frame_bucket
from mindspore_osum.models.ops import halved
from mindspore_osum.models.whisper.config import STRIDE
from mindspore_osum.parameters import fill
from mindspore_osum.systems.registry import system_of
from mindspore_osum.weights_io import open_weights

ENCODER = "encoder."


class GivenFrames(nn.Cell):
    """In the place of an encoder: (B, T, E) with frames at every `STRIDE`th slot -> (B, U, E), lengths."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.encoders = dtype, ()

    def construct(self, x_BTE, len_B):
        return ops.cast(x_BTE[:, ::STRIDE], self.dtype), halved(len_B)


class FrameStore:
    """Frames of the encoder of a model folder, computed where they are not in `folder` yet."""

    def __init__(self, cfg, start: str, folder: str | os.PathLike):
        from mindspore.nn.utils import no_init_parameters

        self.cfg, self.folder = replace(cfg, dtype="float32"), Path(folder)
        with no_init_parameters():
            model = system_of(cfg.model_type).build(self.cfg)
        params = {n: p for n, p in model.parameters_and_names() if n.startswith(ENCODER)}
        digest = hashlib.sha256(repr(cfg.features).encode())
        with open_weights(start) as weights:
            fill(params, weights)
            for name in params:
                digest.update(weights.raw(name))
        self.encoder, self.digest = model.encoder.set_train(False), digest.digest()

    def frames(self, mel_TF: np.ndarray) -> np.ndarray:
        """Encoder frames (U, E) float16 of a log-mel."""
        name = hashlib.sha256(self.digest + mel_TF.tobytes()).hexdigest()
        path = self.folder / name[:2] / f"{name[2:]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        x_UE = self._encoded(mel_TF)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, x_UE, allow_pickle=False)
        except OSError as error:
            raise UserError(f"{path}: cannot keep encoder frames there ({error.strerror})") from None
        return x_UE

    def _encoded(self, mel_TF: np.ndarray) -> np.ndarray:
        ms.set_context(mode=ms.GRAPH_MODE)
        mel_1TF = np.zeros((1, frame_bucket(self.cfg, len(mel_TF)), mel_TF.shape[1]), np.float32)
        mel_1TF[0, : len(mel_TF)] = mel_TF
        x_1UE, len_1 = self.encoder(Tensor(mel_1TF), Tensor([len(mel_TF)], ms.int32))
        return x_1UE.asnumpy()[0, : int(len_1.asnumpy()[0])].astype(np.float16)


class EncodedExtractor:
    """An extractor whose features are encoder frames, in the slots of the mel frames.

    Parameters
    ----------
    inner : of the system.
    """

    def __init__(self, inner: Extractor, store: FrameStore):
        self.inner, self.store = inner, store
        self.sizes = inner.sizes | {"mels": store.cfg.encoder.d_model}

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def scan(self, utt: Utterance) -> Scanned:
        """As the system's; here the frames are computed, before the dataset's thread needs them."""
        found = self.inner.scan(utt)
        if utt.wav is not None:
            self.store.frames(self.inner.features(utt))
        return found

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """(T, E) float32: encoder frames at every `STRIDE`th slot, zeros between them."""
        mel_TF = self.inner.features(utt)
        x_UE = self.store.frames(mel_TF)
        x_TE = np.zeros((len(mel_TF), x_UE.shape[1]), np.float32)
        x_TE[::STRIDE] = x_UE
        return x_TE
