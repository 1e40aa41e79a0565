"""The walk of walk.py, and the tutorial's commands as they stand."""

from pathlib import Path

import pytest

from tests.docs.commands import ROOT, blocks, commands
from tests.docs.test_readme import not_run, run
from tests.walk.walk import LIMIT, Walk, go

TUTORIAL = ROOT / "docs" / "TUTORIAL.md"
LARGE = "## With the 7B model"  # what follows needs a model and devices that are not here


@pytest.mark.slow
def test_walk(tmp_path):
    gone = go(Walk(tmp_path / "walk"))
    assert len(gone) >= 8 and gone[7].title == "serve"
    assert not [step for step in gone if step.computing >= LIMIT]


@pytest.mark.slow
def test_tutorial(tmp_path, monkeypatch, capsys):
    """All blocks in one folder, in order; the whole training of the tutorial, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "mindspore_osum"):
        Path(name).symlink_to(ROOT / name)
    last = TUTORIAL.read_text(encoding="utf-8").partition(LARGE)[0].count("\n")
    shown = [command for b in blocks(TUTORIAL, "bash") if b.line <= last for command in commands(b.text)]
    todo = [command for command in shown if not not_run(command)]
    assert len(todo) > 10
    for command in todo:
        assert run(command) == 0, f"{' '.join(command)}\n{capsys.readouterr().err}"
    assert Path("output/merged.pt").exists()
