"""The projector against its formula in float64, with random weights: odd lengths, batches, packed rows."""

import numpy as np
import pytest
from mindspore import Parameter, Tensor

from mindspore_osum.models.ops import frame_places
from mindspore_osum.models.projector.config import ProjectorConfig
from mindspore_osum.models.projector.network import Projector

D, HIDDEN, OUT = 6, 10, 5


@pytest.fixture(scope="module", params=[2, 4], ids=["stride 2", "stride 4"])
def cell(request):
    cell, rng = Projector(D, OUT, ProjectorConfig(request.param, HIDDEN)), np.random.default_rng(3)
    for param in cell.get_parameters():
        param.set_data(Tensor(rng.standard_normal(param.shape).astype(np.float32) / 2))
    return cell


def expected(cell: Projector, x_UD: np.ndarray) -> np.ndarray:
    """Every window of frames, the last one filled up with zeros."""
    weights = {name: p.asnumpy().astype(np.float64) for name, p in cell.parameters_and_names()}
    stride, out = cell.stride, []
    x_UD = np.concatenate([x_UD, np.zeros((-len(x_UD) % stride, D))])
    for window_KD in x_UD.reshape(-1, stride, D):
        y = np.einsum("kd,edk->e", window_KD, weights["conv1d.weight"]) + weights["conv1d.bias"]
        for name in ("linear1", "linear2"):
            y = weights[f"{name}.weight"] @ np.maximum(y, 0) + weights[f"{name}.bias"]
        out.append(y)
    return np.array(out)


@pytest.mark.parametrize("frames", [1, 4, 7, 8, 13])
def test_one_recording_and_a_batch(cell, frames):
    rng = np.random.default_rng(frames)
    lengths = [frames, max(1, frames - 3)]
    x_BUD = rng.standard_normal((2, frames, D)).astype(np.float32)
    x_BUD[1, lengths[1] :] = 0  # as the encoder leaves it
    z_BZD, whole_B = cell(Tensor(x_BUD), Tensor(np.array(lengths, np.int32)))
    assert z_BZD.shape == (2, -(-frames // cell.stride), OUT)
    assert whole_B.asnumpy().tolist() == [n // cell.stride for n in lengths]
    for row, n in enumerate(lengths):
        want_ZD = expected(cell, x_BUD[row, :n].astype(np.float64))
        assert np.abs(z_BZD.asnumpy()[row, : len(want_ZD)] - want_ZD).max() <= 1e-5


def test_packed_rows(cell):
    """Recordings at multiples of the stride; the places of whole tokens, -1 elsewhere."""
    k, rng = cell.stride, np.random.default_rng(1)
    spans, row = np.array([[0, 2 * k + 1], [4 * k, k]], np.int32), 6 * k
    x_1UD = np.zeros((1, row, D), np.float32)
    for first, count in spans:
        x_1UD[0, first : first + count] = rng.standard_normal((count, D))
    z_1ZD, places_1Z = cell(Tensor(x_1UD), frame_places(Tensor(spans), 1, row))
    assert places_1Z.asnumpy().tolist() == [[0, 1, -1, -1, 0, -1]]
    for first, count in spans:
        want_ZD = expected(cell, x_1UD[0, first : first + count].astype(np.float64))
        got_ZD = z_1ZD.asnumpy()[0, first // k : first // k + len(want_ZD)]
        assert np.abs(got_ZD - want_ZD).max() <= 1e-5


def test_it_has_no_other_parameters(cell):
    assert [name for name, p in cell.parameters_and_names() if isinstance(p, Parameter)] == [
        f"{name}.{part}" for name in ("conv1d", "linear1", "linear2") for part in ("weight", "bias")
    ]
