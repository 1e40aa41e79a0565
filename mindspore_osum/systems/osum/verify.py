"""OSUM's side of a verification: random inputs, and the outputs of our cells stage by stage.

Legend: T mel frames, F mel bins, U encoder frames, Z speech tokens, D width, L positions, V vocabulary.
"""

from dataclasses import replace

import numpy as np

from mindspore_osum.systems.osum.config import ModelConfig


def first_layers(cfg: ModelConfig, layers: int | None) -> ModelConfig:
    """`cfg` with at most `layers` layers in encoder and decoder; all layers for None."""
    if layers is None:
        return cfg
    encoder, decoder = (replace(p, n_layers=min(layers, p.n_layers)) for p in (cfg.encoder, cfg.decoder))
    return replace(cfg, encoder=encoder, decoder=decoder)


def inputs(cfg: ModelConfig, frames: int, tokens: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`mel_TF` with `frames` frames (even), and `ids_L` with `tokens` text tokens around the speech."""
    mel_TF = rng.uniform(-1, 1, (frames, cfg.encoder.n_mels)).astype(np.float32)
    return {"mel_TF": mel_TF, "ids_L": rng.integers(0, cfg.decoder.vocab_size, tokens)}


def stages(model, inputs: dict[str, np.ndarray], wanted) -> dict[str, np.ndarray]:
    """The wanted outputs of an OsumModel: `encoder` (U, D), `speech` (Z, D), `logits` (L, V)."""
    import mindspore as ms
    from mindspore import Tensor, ops

    from mindspore_osum.models.ops import segment_causal_mask

    mel_1TF, out, z_1ZD = Tensor(inputs["mel_TF"][None]), {}, None
    frames = Tensor([mel_1TF.shape[1]], ms.int32)
    if "encoder" in wanted:
        out["encoder"] = model.encoder(mel_1TF, frames)[0][0]
    if "speech" in wanted:
        z_1ZD, _ = model.encode_speech(mel_1TF, frames)
        out["speech"] = z_1ZD[0]
    if "logits" in wanted:
        x_1LD = _embed(model, inputs["ids_L"], z_1ZD)
        length = x_1LD.shape[1]
        positions = ops.arange(0, length, dtype=ms.int32).expand_dims(0)
        mask = segment_causal_mask(Tensor(np.ones((1, length), np.int32)))
        out["logits"] = model.decoder.logits(model.decoder(x_1LD, positions, mask))[0]
    return {name: value.asnumpy() for name, value in out.items()}


def _embed(model, ids_L: np.ndarray, z_1ZD):
    """Input embeddings of [first half of the text; begin; speech; end; second half], or of the text alone."""
    import mindspore as ms
    from mindspore import Tensor

    if z_1ZD is None:
        return model.decoder.embed(Tensor(ids_L[None], ms.int32))
    half, z = len(ids_L) // 2, z_1ZD.shape[1]
    row_L = np.array([*[-1] * half, 0, *range(2, 2 + z), 1, *[-1] * (len(ids_L) - half)], np.int32)
    id_L = np.zeros_like(row_L)
    id_L[row_L < 0] = ids_L
    return model.embed(Tensor(id_L[None]), Tensor(row_L[None]), z_1ZD)
