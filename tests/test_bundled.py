"""The bundled model on the bundled recordings: what scripts/quickstart.sh shows and the README reports."""

import json
import re
from pathlib import Path

import pytest

from mindspore_osum.cli import main
from mindspore_osum.data.manifest import read_manifest
from mindspore_osum.folder import TOKENIZER, read_config
from mindspore_osum.models.presets import preset
from mindspore_osum.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "mindspore_osum" / "assets"
MANIFEST = ASSETS / "recordings" / "manifest.jsonl"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """metrics.json of `osum eval` with the bundled model."""
    out = tmp_path_factory.mktemp("eval")
    args = ["--model", str(ASSETS / "tiny"), "--manifest", str(MANIFEST), "--output", str(out), "--no-plots"]
    assert main(["eval", *args]) == 0
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def test_recordings_were_not_trained_on():
    """Voices of the test split only; the generator's own tests show that its splits share none."""
    utterances, problems = read_manifest(MANIFEST)
    assert len(utterances) >= 12 and not problems
    assert all(u.key.startswith("test_") for u in utterances)
    assert {u.extra["lang"] for u in utterances} == {"en", "zh"}


def test_model_is_the_preset_with_its_tokenizer():
    cfg = read_config(ASSETS / "tiny")
    assert cfg == preset("tiny")
    tokenizer = Tokenizer(ASSETS / "tiny" / TOKENIZER)
    assert tokenizer.vocab_size <= cfg.decoder.vocab_size
    assert (tokenizer.bos_id, tokenizer.eos_id) == (cfg.decoder.bos_id, cfg.decoder.eos_id)


def test_readme_reports_this_error_rate(metrics):
    """The figure in the README is the one that comes out here, to the digits it gives."""
    rate = metrics["fixed"]["asr"]["mer"]
    shown = re.search(r"bundled recordings \| ([0-9.]+) %", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown, "README.md has no line for the bundled recordings"
    assert float(shown.group(1)) == round(100 * rate, 1)


def test_it_listens(metrics):
    """Far better than a model that knows the sentences but not the sound (error rate near 1)."""
    assert metrics["fixed"]["asr"]["mer"] < 0.3
