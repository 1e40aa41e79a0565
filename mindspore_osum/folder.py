"""A model folder: config.json + safetensors + tokenizer.model, whichever side wrote it."""

import json
import os
from pathlib import Path

from mindspore_osum.config import ModelConfig, from_dict
from mindspore_osum.errors import UserError

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.model"
MAX_CONFIG_BYTES = 1 << 20


def read_config(folder: str | os.PathLike) -> ModelConfig:
    """The folder's model description; UserError when the folder is missing or not ours."""
    path = Path(folder) / CONFIG
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such model folder; give one that `osum convert` or `osum train` wrote")
    if not path.is_file():
        raise UserError(f"{folder}: not a model folder (no {CONFIG}); make one with `osum convert`")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes, not a model description")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if isinstance(values, dict) and "encoder" not in values and ("model_type" in values or "architectures" in values):
        raise UserError(f"{folder}: a Hugging Face folder, not a model folder of ours; convert it with `osum convert`")
    return from_dict(ModelConfig, values, str(path))


def write_config(folder: str | os.PathLike, cfg: ModelConfig) -> None:
    """Write config.json."""
    text = json.dumps(cfg.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (Path(folder) / CONFIG).write_text(text, encoding="utf-8")
