import json
import shutil

import pytest

from ckpt_convert.convert import convert


@pytest.fixture(scope="session")
def golden(shared):
    """The folder of golden data."""
    return shared / "golden/touch_asu"


@pytest.fixture(scope="session")
def facts(golden) -> dict:
    """Texts, ids and margins of the golden data."""
    return json.loads((golden / "config.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def folder(golden, tmp_path_factory):
    """The published Trainer folder as a model folder."""
    out = tmp_path_factory.mktemp("touch_asu") / "model"
    convert(golden / "checkpoint-1", out, tokenizer=golden / "llm")
    return out


@pytest.fixture
def copied(golden, tmp_path):
    """A copy of the golden folder that a test may change."""
    shutil.copytree(golden, tmp_path / "golden")
    for path in (tmp_path / "golden").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "golden").chmod(0o755)
    return tmp_path / "golden"
