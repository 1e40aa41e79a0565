"""The golden checkpoint of the published OSUM with Qwen2, converted by its preset."""

from pathlib import Path

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings

# what no tensor of so small a model says; everything else is the preset's, or read from the tensors
OVERRIDES = {
    "encoder": {"n_heads": 4},
    "adapter": {"n_heads": 4},
    "decoder": {"n_heads": 4, "bos_id": 597, "eos_id": 597, "max_positions": 1024},
    "lora": {"dropout": 0.0},
}


def converted(golden: Path, folder: Path) -> Path:
    """The model folder of the golden checkpoint, LoRA not merged."""
    settings = Settings(preset="osum_qwen2_7b", overrides=OVERRIDES)
    convert(golden / "model.pt", folder / "model", settings=settings, tokenizer=golden / "llm")
    return folder / "model"
