"""The same model with recordings padded to another length: another config.json beside the same files.

python examples/real_whisper/padded.py MODEL SECONDS OUTPUT
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path


def padded(model: Path, seconds: float, output: Path) -> None:
    """Make `output`; its files are links to those of `model` where the disk allows."""
    values = json.loads((model / "config.json").read_text("utf-8"))
    values["encoder"]["pad_to_seconds"] = seconds
    output.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        (output / path.name).unlink(missing_ok=True)
        if path.name != "config.json":
            try:
                os.link(path, output / path.name)
            except OSError:
                shutil.copy(path, output / path.name)
    (output / "config.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip().splitlines()[-1])
    try:
        padded(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"padded.py: {error}")
