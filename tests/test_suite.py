"""The suite itself: the tree of its commands, budgets, and what is made once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, budgets, code_digest

OSUM = Path(sys.executable).parent / "osum"


@pytest.mark.parametrize("words", [["-m", "mindspore_osum"], [OSUM]], ids=["module", "script"])
def test_commands_are_of_this_tree(words, tmp_path):
    """From any folder, whatever tree the environment has installed."""
    if words == [OSUM] and not OSUM.exists():
        pytest.skip("needs the environment as scripts/setup_env.sh leaves it")
    command = [sys.executable, "-v", *words, "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and str(ROOT / "mindspore_osum" / "cli.py") in done.stderr


def test_every_folder_has_a_budget():
    files = (ROOT / "tests").rglob("test_*.py")
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in files}
    assert budgets().keys() == {"." if name.endswith(".py") else name for name in folders}


def test_what_is_made_once_is_made_again_after_a_failure(once, tmp_path, monkeypatch):
    monkeypatch.setitem(once.__globals__, "CACHE", tmp_path)
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "x").write_text(str(len(calls)))
        if len(calls) == 1:
            raise ValueError

    with pytest.raises(ValueError):
        once("thing", make)
    assert [(once("thing", make) / "x").read_text() for _ in range(2)] == ["2", "2"] and len(calls) == 2
    assert calls[0].parent.name == code_digest()
