"""Initial weights: complete, reproducible, of the scale they claim."""

import numpy as np
import pytest

from mindspore_osum.systems.init import initial_value
from mindspore_osum.systems.osum.network import OsumModel
from mindspore_osum.systems.osum.system import SYSTEM
from tests.models.common import SMALL


@pytest.fixture(scope="module")
def values():
    """Parameters by name after init_weights with seed 3."""
    return initialised(3)


def initialised(seed: int) -> dict[str, np.ndarray]:
    model = OsumModel(SMALL)
    SYSTEM.init_weights(model, seed)
    return {name: param.asnumpy() for name, param in model.parameters_and_names()}


def is_bias(name: str) -> bool:
    return name.endswith("bias") or "lora_B" in name


def test_every_parameter_is_filled(values):
    assert len(values) > 80
    for name, value in values.items():
        assert np.isfinite(value).all(), name
        if is_bias(name):
            assert not value.any(), name
        elif value.ndim == 1:
            scaled = name == "adapter.transformer.embed.1.weight"  # its output is multiplied by the root
            assert (value == np.float32(len(value) ** -0.5 if scaled else 1)).all(), name
        else:
            assert np.count_nonzero(value) == value.size, name


def test_same_seed_same_weights_other_seed_others(values):
    again, other = initialised(3), initialised(4)
    for name, value in values.items():
        assert np.array_equal(value, again[name]), name
        assert value.ndim == 1 or is_bias(name) or not np.array_equal(value, other[name]), name


def test_no_two_matrices_are_alike(values):
    matrices = {name: v for name, v in values.items() if v.ndim > 1 and not is_bias(name)}
    starts = {v.reshape(-1)[:4].tobytes() for v in matrices.values()}
    assert len(starts) == len(matrices)


@pytest.mark.parametrize(
    "name, shape, depth, std",
    [
        ("encoder.embed.conv.0.weight", (256, 80, 3), 4, 2.5 * (80 * 3) ** -0.5),
        ("adapter.conv.1.weight", (256, 80, 3), 2, 1.7 * (80 * 3) ** -0.5),
        ("encoder.encoders.0.feed_forward.w_1.weight", (512, 128), 4, 128**-0.5),
        ("encoder.encoders.0.feed_forward.w_2.weight", (128, 512), 4, 512**-0.5 / 8**0.5),
        ("adapter.transformer.encoders.1.self_attn.linear_out.weight", (256, 256), 2, 256**-0.5 / 2),
        ("decoder.model.layers.0.self_attn.o_proj.weight", (256, 192), 8, 192**-0.5 / 4),
        ("decoder.model.layers.0.self_attn.q_proj.lora_A.weight", (64, 512), 8, 512**-0.5 / 3**0.5),
        ("decoder.model.embed_tokens.weight", (800, 64), 8, 0.02),
        ("speech_token_embed.weight", (400, 128), 1, 0.02),
    ],
)
def test_scales(name, shape, depth, std):
    value = initial_value(name, shape, depth, seed=0)
    assert value.shape == shape and value.dtype == np.float32
    # 4 standard errors of a standard deviation
    assert abs(value.std() / std - 1) <= 4 / (2 * value.size) ** 0.5
    assert abs(value.mean()) <= 4 * std / value.size**0.5
