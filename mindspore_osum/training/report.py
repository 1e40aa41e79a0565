"""What a run tells: lines on stderr, lines of metrics.jsonl."""

import json
import os
import sys
from pathlib import Path

from mindspore_osum.weights_io import write_text


def say(text: str) -> None:
    """One line for the person at the terminal; of several processes only the first speaks."""
    if os.environ.get("RANK_ID", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


def append_line(path: Path, record: dict) -> None:
    """Add one JSON line; numbers keep all digits."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def keep_lines(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again, and one that a crash cut off."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    write_text(path, "".join(kept))
