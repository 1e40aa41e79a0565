"""Made-up training examples: noise between random tokens."""

import numpy as np

from mindspore_osum.data.batches.extractor import Example
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.sequence import Audio, Text, lay_out


def example(rng: np.random.Generator, cfg: Config, frames: int, text: int, label: int) -> Example:
    """Noise of this many mel frames between `text` random tokens, the last `label` of which are learned."""
    ids = rng.integers(5, cfg.decoder.vocab_size, text)
    before, after, learned = np.split(ids, [(text - label) // 2, text - label])
    spans = [Text(before), Audio(cfg.tokens(frames)), Text(after), Text(learned, loss="content")]
    mel_TF = rng.standard_normal((frames, cfg.features.n_mels), np.float32)
    sequence = lay_out(None, spans, system_of(cfg.model_type).template(cfg).losses)
    return {"mel_BTF": mel_TF, "mel_len_B": np.array(frames), **sequence.columns}
