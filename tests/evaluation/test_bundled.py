"""The bundled model on the bundled recordings: the README's number, reproduced."""

import json
from pathlib import Path

import pytest

from mindspore_osum.cli import main
from mindspore_osum.inference.command import BUNDLED

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = BUNDLED.parent / "recordings" / "manifest.jsonl"


HERE = BUNDLED.is_dir() and MANIFEST.is_file()


@pytest.mark.skipif(not HERE, reason="needs the bundled model and recordings")
def test_the_readme_says_what_the_bundled_model_does(tmp_path):
    out = tmp_path / "out"
    assert main(["eval", "--manifest", str(MANIFEST), "--output", str(out), "--no-plots"]) == 0
    scores = json.loads((out / "metrics.json").read_text("utf-8"))["fixed"]["asr"]
    assert scores["utterances"] == len(MANIFEST.read_text("utf-8").splitlines())
    assert f"{100 * scores['wer']:.2f}%" in (ROOT / "README.md").read_text("utf-8")
