"""What the counts of an index depend on."""

import hashlib
import json

from mindspore_osum.data.batches.extractor import Extractor
from mindspore_osum.text.tokenizer import find_tokenizer
from mindspore_osum.training.config import TrainConfig

SPLITS = ("train", "valid")


def tokenizer_digest(cfg: TrainConfig) -> str:
    """A hash of a job's tokenizer."""
    return hashlib.sha256(find_tokenizer(cfg.tokenizer).read_bytes()).hexdigest()[:16]


def reading_of(cfg: TrainConfig, extractor: Extractor, split: str) -> dict:
    """What the frames, tokens and requests of an utterance depend on in a job, as plain values.

    Sizes of networks, shapes of batches, augmentation and weights are not in it.
    """
    model = extractor.model
    scalars = {name: value for name, value in model.to_dict().items() if not isinstance(value, dict)}
    scalars.pop("dtype", None)
    asked = {"data.requests": cfg.data.requests}
    if cfg.data.requests != "tag":  # sentences are drawn
        asked |= {"batch.text_tokens": cfg.batch.text_tokens, "seed": cfg.seed, "split": split}
    return {
        "system": cfg.system.Config.model_type,
        "features": repr(model.features),
        "tokenizer": tokenizer_digest(cfg),
        **asked,
        **{name: json.dumps(value) for name, value in scalars.items()},
        **getattr(extractor, "reads", {}),
    }
