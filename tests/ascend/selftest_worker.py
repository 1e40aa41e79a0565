"""Runs the self-test on CPU by plain operators and by kernels of Ascend's, and notes the differences.

python -m tests.ascend.selftest_worker MEASURED.json
"""

import json
import sys
from pathlib import Path

import ascend_ops_cpu
import mindspore as ms

from mindspore_osum.ascend import selftest


def main(target: Path) -> None:
    """{"fused bfloat16": {result: difference}} and the like."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ascend_ops_cpu.enable()
    found = {}
    for operators, dtype in (("plain", "float32"), ("fused", "bfloat16"), ("fused", "float16")):
        found[f"{operators} {dtype}"] = {r.name: r.difference for r in selftest.run(operators, dtype)}
    target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
