"""The training network of a system: where its heads come from."""

import numpy as np
import pytest

pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore_osum.config import merge  # noqa: E402
from mindspore_osum.systems.registry import preset  # noqa: E402
from mindspore_osum.training import checkpoint  # noqa: E402
from mindspore_osum.training.network import NetworkConfig, TrainingNetwork  # noqa: E402
from tests.training.tones import SMALL_MODEL  # noqa: E402


def objective(**sections):
    """That of a small network."""
    model = merge(preset("tiny").to_dict(), SMALL_MODEL)
    config = NetworkConfig(model, learn=["adapter", "decoder"], sections=sections, vocab=9, seed=1)
    return TrainingNetwork(config).objective


def test_heads_come_from_the_runs_before(tmp_path, capsys):
    """Also where a stage of text alone, which has none, lies between."""
    net = objective(ctc={"weight": 0.3}, classify={"weight": 0.1})
    rng = np.random.default_rng(0)
    heads = {
        name: rng.standard_normal(param.shape).astype(np.float32)
        for name, param in net.parameters_and_names()
        if not name.startswith("model.")
    }
    assert set(heads) == {f"{head}.{part}" for head in ("ctc", "classify") for part in ("weight", "bias")}
    spoken = heads | {"ctc.weight": np.ones((3, 4), np.float32)}  # of another tokenizer: not taken
    other = {"decoder.x": np.ones(2, np.float32)}
    checkpoint.save(tmp_path / "spoken" / "checkpoints", 3, spoken, {"start": "tiny", "fingerprint": {}}, 1)
    about = {"start": str(tmp_path / "spoken" / "model"), "fingerprint": {}}
    checkpoint.save(tmp_path / "text" / "checkpoints", 5, other, about, 1)
    before = net.ctc.weight.asnumpy()
    checkpoint.load_heads(net, str(tmp_path / "text" / "model"))
    for name, param in net.parameters_and_names():
        if name in heads:
            assert np.array_equal(param.asnumpy(), before if name == "ctc.weight" else heads[name]), name
    said = capsys.readouterr().err
    assert said.startswith("ctc.weight: random at first; no run behind ") and said.count("\n") == 1


def test_heads_that_no_run_left_are_told(tmp_path, capsys):
    net = objective(ctc={"weight": 0.3})
    other = {"decoder.x": np.ones(2, np.float32)}
    checkpoint.save(tmp_path / "text" / "checkpoints", 5, other, {"fingerprint": {}}, 1)  # of no known start
    for start in (tmp_path / "text" / "model", tmp_path / "converted"):
        checkpoint.load_heads(net, str(start))
        assert capsys.readouterr().err.startswith("ctc.bias, ctc.weight: random at first; no run behind")
    checkpoint.load_heads(objective(), str(tmp_path / "converted"))
    assert capsys.readouterr().err == ""
