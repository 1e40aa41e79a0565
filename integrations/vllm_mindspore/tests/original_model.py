"""The original model, as our own package computes it from the folder that was exported."""

from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindspore_osum.folder import load_folder
from mindspore_osum.models.ops import segment_causal_mask


class _Hears(nn.Cell):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_1TF, mel_len_1):
        return self.model.encode_speech(mel_1TF, mel_len_1)[0]


@lru_cache(maxsize=2)
def original(folder):
    """The network of a folder, with its LoRA beside the weights."""
    return load_folder(folder)


def heard(folder, mel_TF: np.ndarray) -> np.ndarray:
    """Speech tokens (Z, D) of a recording at its own length, between the begin and the end row."""
    model = original(folder)
    graph = ms.jit(_Hears(model).set_train(False), jit_level="O0")
    z_ZD = graph(Tensor(mel_TF[None]), Tensor([len(mel_TF)], ms.int32))[0].asnumpy()
    marks_2D = model.speech_token_embed.weight.asnumpy()[-2:]
    return np.concatenate((marks_2D[:1], z_ZD, marks_2D[1:]))


def mel(frames: int, bins: int = 80) -> np.ndarray:
    """Random features (T, F)."""
    return np.random.default_rng(frames).standard_normal((frames, bins)).astype(np.float32)


def close(found, expected, allowed: float = 1e-5) -> None:
    """Equal shapes, and differences within `allowed` of the largest value."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= allowed * np.abs(expected).max()


class _Decodes(nn.Cell):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def construct(self, x_1LD, position_1L, segment_1L):
        return self.decoder.logits(self.decoder(x_1LD, position_1L, segment_causal_mask(segment_1L)))


def decoded(folder, x_LD: np.ndarray) -> np.ndarray:
    """Scores (L, V) after each of the embeddings of a sequence."""
    graph = ms.jit(_Decodes(original(folder).decoder).set_train(False), jit_level="O0")
    places_1L = np.arange(len(x_LD), dtype=np.int32)[None]
    return graph(Tensor(x_LD[None]), Tensor(places_1L), Tensor(np.ones_like(places_1L)))[0].asnumpy()
