"""The table of every kind of adapter against its cell."""

import pytest

from mindspore_osum.models.adapters import keys
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds, module_of
from mindspore_osum.models.table import Table, shapes

D_IN, D_OUT = 38, 26


def shapes_of(cfg: AdapterConfig) -> dict:
    return shapes([Table("adapter", keys.rows(cfg.kind), keys.values(cfg, D_IN, D_OUT))])


@pytest.fixture(params=kinds())
def cfg(request) -> AdapterConfig:
    return AdapterConfig(kind=request.param, n_layers=3, n_heads=2, d_ff=44, conv_channels=5)


def test_shapes_are_those_of_the_cells(cfg):
    pytest.importorskip("mindspore")
    from mindspore.nn.utils import no_init_parameters

    with no_init_parameters():
        cell = module_of(cfg.kind, "network").Adapter(D_IN, D_OUT, cfg)
    assert shapes_of(cfg) == {f"adapter.{n}": tuple(p.shape) for n, p in cell.parameters_and_names()}


def test_sizes_and_kind_are_read_back(cfg):
    found, needs = shapes_of(cfg), []
    read = keys.infer(found, "adapter.", AdapterConfig(), D_IN, {}, needs)
    assert read == {key: vars(cfg)[key] for key in read} and not needs
    assert {"kind", "n_layers", "d_ff"} <= read.keys() <= {"kind", "n_layers", "d_ff", "conv_channels"}
    keys.infer(found, "adapter.", AdapterConfig(), 1024, {}, needs)
    assert needs == ["adapter.n_heads (width 38, preset 1024; the published adapter has 4)"]
    assert keys.infer({}, "adapter.", AdapterConfig(), D_IN, {}, needs) == {}


def test_a_kind_is_told_by_most_of_its_tensors(cfg):
    for row in module_of(cfg.kind, "keys").ROWS[1:]:  # sizes may be read off the first
        found = shapes_of(cfg)
        del found[f"adapter.{row.ours}.weight"]
        assert keys.infer(found, "adapter.", AdapterConfig(), D_IN, {}, [])["kind"] == cfg.kind


def test_the_number_of_tokens_follows_from_the_strides(cfg):
    strides = module_of(cfg.kind, "config").STRIDES
    for frames in range(1, 40):
        tokens = frames
        for stride in strides:
            tokens = len(range(0, tokens, stride))
        assert cfg.tokens(frames) == tokens
