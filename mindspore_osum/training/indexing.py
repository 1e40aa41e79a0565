"""What the counts of an index depend on."""

import hashlib
import json
from collections.abc import Iterator

from mindspore_osum.systems.config import Config
from mindspore_osum.text.tokenizer import find_tokenizer
from mindspore_osum.training.config import TrainConfig, own_sections

SPLITS = ("train", "valid")


def tokenizer_digest(cfg: TrainConfig) -> str:
    """A hash of a job's tokenizer."""
    return hashlib.sha256(find_tokenizer(cfg.tokenizer).read_bytes()).hexdigest()[:16]


def reading_of(cfg: TrainConfig, model: Config, split: str) -> dict:
    """What the frames, tokens and requests of an utterance depend on in a job, as plain values.

    Sizes of networks, shapes of batches and augmentation are not in it; of losses whether they are in use.
    """
    scalars = {name: value for name, value in model.to_dict().items() if not isinstance(value, dict)}
    scalars.pop("dtype", None)
    asked = {"data.requests": cfg.data.requests}
    if cfg.data.requests != "tag":  # sentences are drawn
        asked |= {"batch.text_tokens": cfg.batch.text_tokens, "seed": cfg.seed, "split": split}
    sections = {f"{name}.{key}": value for name, key, value in _settings(cfg)}
    return {
        "system": cfg.system.Config.model_type,
        "features": repr(model.features),
        "tokenizer": tokenizer_digest(cfg),
        **asked,
        **{name: json.dumps(value) for name, value in scalars.items()},
        **sections,
    }


def _settings(cfg: TrainConfig) -> Iterator[tuple[str, str, bool | str]]:
    for name, values in own_sections(cfg).items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            yield name, key, value > 0 if isinstance(value, int | float) else json.dumps(value)
