"""The golden parts as a model folder, both ways."""

from pathlib import Path

from ckpt_convert.convert import convert


def converted(golden: Path, folder: Path) -> Path:
    """A model folder of the golden parts."""
    parts = {
        "encoder": golden / "whisper",
        "decoder": golden / "llm",
        "aligner": golden / "aligner.safetensors",
    }
    convert(None, folder, **parts, tokenizer=golden / "tokenizer.model")
    return folder
