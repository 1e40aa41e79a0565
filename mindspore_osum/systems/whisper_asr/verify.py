"""Whisper's side of a verification: random inputs, and the outputs of our cells stage by stage.

Legend: T mel frames, U encoder frames, D width, L positions, V vocabulary.
"""

from dataclasses import replace

import numpy as np

from mindspore_osum.systems.whisper_asr.config import WhisperConfig


def first_layers(cfg: WhisperConfig, layers: int | None) -> WhisperConfig:
    """`cfg` with at most `layers` layers in encoder and decoder; all layers for None."""
    if layers is None:
        return cfg
    encoder, decoder = (replace(p, n_layers=min(layers, p.n_layers)) for p in (cfg.encoder, cfg.decoder))
    return replace(cfg, encoder=encoder, decoder=decoder, alignment_heads=())


def inputs(cfg: WhisperConfig, frames: int, tokens: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`mel_TF` of a whole window, whatever `frames` says, and `ids_L` with `tokens` text tokens."""
    mel_TF = rng.uniform(-1, 1, (cfg.most_frames, cfg.encoder.n_mels)).astype(np.float32)
    return {"mel_TF": mel_TF, "ids_L": rng.integers(0, cfg.decoder.vocab_size, tokens)}


def stages(model, inputs: dict[str, np.ndarray], wanted) -> dict[str, np.ndarray]:
    """The wanted outputs of a WhisperModel: `encoder` (U, D) and `logits` (L, V)."""
    import mindspore as ms
    from mindspore import Tensor

    mel_1TF, ids_1L = Tensor(inputs["mel_TF"][None]), Tensor(inputs["ids_L"][None], ms.int32)
    frames, place_1L = Tensor([mel_1TF.shape[1]], ms.int32), np.arange(ids_1L.shape[1], dtype=np.int32)[None]
    out = {}
    if "encoder" in wanted:
        out["encoder"] = model.encoder(mel_1TF, frames)[0][0]
    if "logits" in wanted:
        out["logits"] = model(mel_1TF, frames, ids_1L, Tensor(place_1L))[0]
    return {name: value.asnumpy() for name, value in out.items()}
