"""Writes the values that `osum doctor` compares with: plain operators in float32, on CPU.

    python scripts/make_selftest.py

It is for after a change of mindspore_osum/ascend/selftest.py, or of what a layer computes.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mindspore_osum.ascend import selftest  # noqa: E402
from mindspore_osum.device import use_device  # noqa: E402


def main() -> None:
    """Measure, and write the file."""
    use_device("CPU")
    stored = {name: selftest.kept(values) for name, values in selftest.measure("plain", "float32")}
    numbers = {name: [float(f"{value:.7g}") for value in values] for name, values in stored.items()}
    rows = (f"{json.dumps(name)}: {values}" for name, values in numbers.items())
    selftest.STORED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
