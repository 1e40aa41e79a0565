"""FireRed's table against its cells and against the names and shapes of WeNet's and FireRedASR's own modules.

`golden.json` is described in test_network.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.models.firered import keys
from mindspore_osum.models.firered.config import ENCODERS, FireRedConfig
from mindspore_osum.models.table import Table, shapes

SMALL = FireRedConfig(d_model=24, n_layers=2, n_heads=3, d_ff=96, kernel=5)  # of golden.json
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
NAMES = Table("encoder", keys.ROWS)
WENET, FIRERED = keys.WENET.of([NAMES]), keys.FIRERED.of([NAMES])


def shapes_of(cfg: FireRedConfig) -> dict:
    return shapes([Table("encoder", keys.ROWS, keys.values(cfg))])


@pytest.mark.parametrize("cfg", [*ENCODERS.values(), replace(SMALL, n_mels=83, conv_channels=5)])
def test_shapes_are_those_of_the_cells(cfg):
    pytest.importorskip("mindspore")
    from mindspore.nn.utils import no_init_parameters

    from mindspore_osum.models.firered.network import FireRedEncoder

    with no_init_parameters():
        cell = FireRedEncoder(cfg, positions=9)
        cells = {f"encoder.{n}": tuple(p.shape) for n, p in cell.parameters_and_names()}
    assert shapes_of(cfg) == cells


@pytest.mark.parametrize("cfg", [*ENCODERS.values(), SMALL])
def test_sizes_are_read_back(cfg):
    assert keys.infer(shapes_of(cfg), "encoder.") == {k: v for k, v in vars(cfg).items() if k != "norm_eps"}
    assert keys.infer({}, "encoder.") == {}


def test_names_and_shapes_are_the_published_ones():
    ours = shapes_of(SMALL)
    layers = {name for name in ours if ".encoders.1." in name}
    assert len(ours) == len(layers) + len(GOLDEN["shapes"])
    for wenet, (shape, firered) in GOLDEN["shapes"].items():
        name = WENET.ours(f"encoder.{wenet}")
        assert ours[name] == tuple(shape) and WENET.theirs(name) == f"encoder.{wenet}"
        if firered is None:  # in a file of its own
            assert FIRERED.theirs(name) is None
        else:
            assert FIRERED.ours(f"encoder.{firered}") == name and FIRERED.theirs(name) == f"encoder.{firered}"
    assert WENET.is_marked([f"encoder.{name}" for name in GOLDEN["shapes"]])
    assert FIRERED.is_marked([f"encoder.{firered}" for _, firered in GOLDEN["shapes"].values()])
    assert not WENET.is_marked(["encoder.encoders.0.self_attn.linear_q.weight"])  # Whisper's


@pytest.mark.parametrize("form, key", [(WENET, "embed.pos_enc.pe"), (FIRERED, "positional_encoding.pe")])
def test_stored_positions_are_the_computed_ones(form, key):
    (_, rows, width), stored = GOLDEN["positions"]
    other = form.of([Table("encoder", keys.ROWS, keys.values(SMALL))]).other(f"encoder.{key}")
    assert (other.kind, other.computed.usual, width) == ("derived", rows, SMALL.d_model)
    table = other.computed.rows(keys.values(SMALL), 0, rows)
    assert table.shape == (rows, width)
    np.testing.assert_allclose(table[[0, 4998, 4999, 5000, 9998], :6], stored, atol=5e-4)
    np.testing.assert_array_equal(other.computed.rows(keys.values(SMALL), 4096, 10), table[4096:4106])
