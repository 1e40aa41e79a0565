"""A kind of adapter is a folder: nothing outside names it, and without it everything else stands."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds

ROOT = Path(__file__).resolve().parents[3]
OTHERS = [kind for kind in kinds() if kind != AdapterConfig().kind]  # the released one is the default
FOLDERS = ("mindspore_osum/models/adapters", "tests/models/adapters")  # of a kind, and of its own tests
# what a kind might be named in: models, presets, configurations and the converter's tables
FAST = (
    "tests/models/adapters",
    "tests/models/llama/test_keys.py",
    "tests/models/whisper/test_keys.py",
    "tests/systems/osum/test_keys.py",
    "tests/systems/osum/test_presets.py",
    "tests/convert/test_key_docs.py",
)
IMPORT_ALL_AND_TEST = """
import importlib, pkgutil, sys
import pytest
for package in ("mindspore_osum", "ckpt_convert"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:  # an extra may be absent, what is ours may not
                assert error.name.partition(".")[0] not in ("mindspore_osum", "ckpt_convert"), error
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def own(kind: str) -> list[Path]:
    return [ROOT / folder / kind for folder in FOLDERS]


@pytest.mark.parametrize("kind", OTHERS)
def test_nothing_outside_names_it(kind):
    naming = []
    folders = (ROOT / name for name in ("mindspore_osum", "ckpt_convert", "tests"))
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        # recordings of what must stay equal are made of every kind
        if not {*own(kind), ROOT / "tests" / "equal"} & set(path.parents):
            names = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if is_text(node))
            # as a word: FireRed's firered_conv2d4 is WeNet's name of another thing
            named = (name for name in names if re.search(rf"(?<![A-Za-z0-9]){kind}(?![A-Za-z0-9])", name))
            naming += [f"{path.relative_to(ROOT)}: {name!r}" for name in named]
    assert not naming


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("kind", OTHERS)
def test_everything_else_stands_without_it(kind, tmp_path):
    for name in ("mindspore_osum", "ckpt_convert", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in own(kind):
        shutil.rmtree(tmp_path / folder.relative_to(ROOT), ignore_errors=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-c", IMPORT_ALL_AND_TEST, *FAST]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
