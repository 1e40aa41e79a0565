"""Hostile model folders: sizes in config.json are compared with the weights before a network is built."""

import json
import os
import re
import shutil
import time

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, CONFIG, WEIGHTS, load_folder, read_config
from mindspore_osum.systems.osum.system import SYSTEM


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The bundled model, which must not be built."""
    monkeypatch.setattr(type(SYSTEM), "build", lambda *_: pytest.fail("a network was built"))
    shutil.copy(BUNDLED / CONFIG, tmp_path)
    for path in BUNDLED.glob("*.safetensors*"):
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def change(folder, part: str, **values) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config[part] |= values
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "part, key, value, says",
    [
        ("decoder", "n_layers", 1_000_000_000, "decoder.n_layers must be at most 256, not 1000000000"),
        ("decoder", "n_layers", 200, "missing: decoder.model.layers.1"),
        ("encoder", "n_layers", 10**400, "encoder.n_layers: a number of 1329 bits is too large"),
        ("adapter", "n_layers", -1, "adapter.n_layers must be positive"),
        ("decoder", "d_ff", 2**30, "at most 128 times d_model 192"),
        ("decoder", "d_ff", 1024, "of another shape"),
        ("decoder", "vocab_size", 2**62, "must be positive and below 2^31"),
        ("decoder", "max_positions", 2**40, "must be positive and below 2^31"),
        ("encoder", "pad_to_seconds", 1e300, "pad_to_seconds must be 0 to 60"),
        ("encoder", "pad_to_seconds", -1.0, "pad_to_seconds must be 0 to 60"),
        ("encoder", "norm_eps", float("nan"), "must be a finite number"),
        ("decoder", "rope_theta", float("inf"), "must be a finite number"),
        ("decoder", "rope_theta", 0.0, "rope_theta must be 1 or more"),
        ("adapter", "norm_eps", -1e-5, "norm_eps must be 0 or more"),
        ("lora", "rank", 2**62, "lora.rank must be at most"),
        ("lora", "rank", 8, "36 missing: decoder.model.layers.0"),
    ],
)
def test_sizes_are_refused_before_a_network_is_built(folder, part, key, value, says):
    change(folder, part, **{key: value})
    began = time.monotonic()
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        load_folder(folder)
    assert time.monotonic() - began < 5 and "\n" not in str(refused.value)


def test_a_pipe_is_no_weights(folder):
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    os.mkfifo(folder / WEIGHTS)
    assert read_config(folder)
    with pytest.raises(UserError, match="not a regular file"):
        load_folder(folder)
