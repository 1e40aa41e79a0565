"""examples/fine_tune: recordings laid out, then trained on for a step, with a small model of random weights.

tests/walk does the same with the bundled model.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.weights_io import open_weights
from tests.docs.commands import ROOT
from tests.inference.common import SMALL, fill, small_folder

sys.path.insert(0, str(ROOT / "examples" / "fine_tune"))
import fine_tune  # noqa: E402
import sample_data  # noqa: E402


@pytest.fixture
def data(tmp_path) -> Path:
    sample_data.lay_out(tmp_path / "my_data")
    return tmp_path / "my_data"


def rows(table: Path) -> list[list[str]]:
    """Cells of a table of recordings, without its header."""
    header, *lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    assert header == ["audio", "text", "gender"]
    return lines


def test_sample_data(data):
    train, valid = rows(data / "train.tsv"), rows(data / "valid.tsv")
    assert len(train) > len(valid) > 1
    names = [name for name, *_ in train + valid]
    assert len(set(names)) == len(names) and all((data / name).is_file() for name in names)
    assert {gender for *_, gender in train + valid} == {"MALE", "FEMALE"}
    said = {Path(line.wav).name: line.txt for line in read_manifest(sample_data.RECORDINGS)[0]}
    assert all(text and "<" not in text and Path(name).name in said for name, text, _ in train + valid)


def test_sample_data_overwrites_nothing(data, tmp_path):
    with pytest.raises(sample_data.UserError, match="is there already"):
        sample_data.lay_out(data)


@pytest.mark.slow
def test_fine_tune(data, tmp_path, monkeypatch, capsys):
    """LoRA and adapter learn and nothing else changes; every recording is answered before and after."""
    from mindspore_osum.systems.osum.network import OsumModel

    monkeypatch.chdir(tmp_path)
    model = OsumModel(replace(SMALL, lora=LoraConfig(rank=0)))
    fill(model, seed=5)
    start = small_folder(tmp_path / "small", model)
    assert fine_tune.main(["my_data", "--model", str(start), "--steps", "1", "--output", "out"]) == 0
    printed = capsys.readouterr().out
    valid = rows(data / "valid.tsv")
    assert printed.count("  before: ") == printed.count("  after:  ") == len(valid)
    for name, text, gender in valid:
        assert f"{Path(name).stem}: {text}<{gender}>" in printed
    changed = set()
    with open_weights(start) as before, open_weights(Path("out/model")) as after:
        for name in before.infos.keys() & after.infos.keys():
            if (before.read(name) != after.read(name)).any():
                changed.add(name)
        taught = [after.read(name).any() for name in after.infos if name.endswith("lora_B.weight")]
    assert any(name.startswith("adapter.") for name in changed) and taught and all(taught)  # B began at zero
    assert all(name.startswith(("adapter.", "speech_token_embed.")) for name in changed)


def test_no_data_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        fine_tune.main(["gone", "--output", "out"])
    assert capsys.readouterr().err.startswith("osum: gone: no such folder")
