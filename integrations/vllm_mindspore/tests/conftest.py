"""Models that the tests export, and vLLM-MindSpore where it is installed.

pytest integrations/vllm_mindspore/tests      # in an environment of README.md: everything
                                              # in ours: what needs no vLLM; the rest skips
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).with_name("stand_in")
HAS_VLLM = all(importlib.util.find_spec(name) for name in ("vllm", "vllm_mindspore"))

if HAS_VLLM:
    if importlib.util.find_spec("msadapter") is None:
        sys.path.insert(0, str(STAND_IN))
        # vLLM looks at a model in a process of its own
        os.environ["PYTHONPATH"] = os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")])
        os.environ["USE_TORCH"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import vllm_mindspore  # noqa: F401  before vllm


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A small model with LoRA, and random weights that are nowhere zero."""
    return _helpers().small_folder(tmp_path_factory.mktemp("model") / "small")


def _helpers():
    """tests/inference/common.py by its place: vLLM-MindSpore's wheel brings a package `tests`, too."""
    path = Path(__file__).resolve().parents[3] / "tests" / "inference" / "common.py"
    spec = importlib.util.spec_from_file_location("osum_test_helpers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def exported(folder) -> Path:
    """It, as `osum export --format vllm` writes it."""
    from mindspore_osum.cli import main

    target = folder.parent / "exported"
    assert main(["export", "--model", str(folder), "--output", str(target), "--format", "vllm"]) == 0
    return target
