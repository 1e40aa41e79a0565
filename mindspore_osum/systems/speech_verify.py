"""Our side of a verification of models with encoder, adapter and decoder: random inputs, and the outputs of
our cells stage by stage.

Legend: T mel frames, F mel bins, U encoder frames, Z speech tokens, D width, L positions, V vocabulary.
"""

from dataclasses import replace

import numpy as np

from mindspore_osum.systems.speech_config import SpeechConfig


class SpeechVerification:
    """As `System.verification` asks for.

    Parameters
    ----------
    marks : whether a recording is between the model's speech BOS and EOS.
    frames_less : mel frames that the input has less than is asked for.
    """

    def __init__(self, marks: bool, frames_less: int = 0):
        self.marks, self.frames_less = marks, frames_less

    def first_layers(self, cfg: SpeechConfig, layers: int | None) -> SpeechConfig:
        """`cfg` with at most `layers` layers in encoder and decoder; all layers for None."""
        if layers is None:
            return cfg
        encoder, decoder = (replace(p, n_layers=min(layers, p.n_layers)) for p in (cfg.encoder, cfg.decoder))
        return replace(cfg, encoder=encoder, decoder=decoder)

    def inputs(
        self, cfg: SpeechConfig, frames: int, tokens: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`mel_TF` with `frames` frames (even), and `ids_L` with `tokens` text tokens around the speech."""
        shape = (frames - self.frames_less, cfg.encoder.n_mels)
        mel_TF = rng.uniform(-1, 1, shape).astype(np.float32)
        return {"mel_TF": mel_TF, "ids_L": rng.integers(0, cfg.decoder.vocab_size, tokens)}

    def stages(self, model, inputs: dict[str, np.ndarray], wanted) -> dict[str, np.ndarray]:
        """The wanted outputs of a network: `encoder` (U, D), `speech` (Z, D), `logits` (L, V)."""
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
            x_1LD = self._embed(model, inputs["ids_L"], z_1ZD)
            length = x_1LD.shape[1]
            positions = ops.arange(0, length, dtype=ms.int32).expand_dims(0)
            mask = segment_causal_mask(Tensor(np.ones((1, length), np.int32)))
            out["logits"] = model.decoder.logits(model.decoder(x_1LD, positions, mask))[0]
        return {name: value.asnumpy() for name, value in out.items()}

    def _embed(self, model, ids_L: np.ndarray, z_1ZD):
        """Input embeddings of [first half of the text; begin; speech; end; second half], or of the text."""
        import mindspore as ms
        from mindspore import Tensor

        if z_1ZD is None:
            return model.decoder.embed(Tensor(ids_L[None], ms.int32))
        half, speech = len(ids_L) // 2, range(2, 2 + z_1ZD.shape[1])
        rows = [0, *speech, 1] if self.marks else speech
        row_L = np.array([*[-1] * half, *rows, *[-1] * (len(ids_L) - half)], np.int32)
        id_L = np.zeros_like(row_L)
        id_L[row_L < 0] = ids_L
        return model.embed(Tensor(id_L[None]), Tensor(row_L[None]), z_1ZD)
