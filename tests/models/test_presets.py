"""The named models have the sizes and the parameters of what they are named after."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.models.whisper.config import ENCODERS
from mindspore_osum.systems.osum.presets import PRESETS
from mindspore_osum.systems.registry import preset


@functools.cache
def shapes(name: str) -> dict[str, tuple]:
    """Parameters of a preset by name, without allocating them."""
    from mindspore.nn.utils import no_init_parameters

    from mindspore_osum.systems.osum.network import OsumModel

    with no_init_parameters():
        model = OsumModel(preset(name))
    return {name: tuple(param.shape) for name, param in model.parameters_and_names()}


def count(params: dict[str, tuple], prefix: str) -> int:
    return sum(int(np.prod(shape)) for name, shape in params.items() if name.startswith(prefix))


def test_7b_has_the_published_sizes():
    pangu = shapes("osum_pangu_7b")
    lora = {name: shape for name, shape in pangu.items() if "lora_" in name}
    assert count(pangu, "decoder.") - count(lora, "decoder.") == 8_030_887_936  # openPangu-Embedded-7B-V1.1
    assert count(lora, "decoder.") == pytest.approx(131.5e6, rel=1e-3)
    assert count(pangu, "encoder.") == pytest.approx(305.7e6, rel=1e-3)
    assert count(pangu, "adapter.conv.") == pytest.approx(9.44e6, rel=1e-3)
    assert count(pangu, "adapter.transformer.") == pytest.approx(38.85e6, rel=1e-3)


def test_7b_has_the_published_shapes():
    pangu = shapes("osum_pangu_7b")
    published = {
        "encoder.embed.conv.0.weight": (1024, 80, 3),
        "encoder.embed.conv.2.weight": (1024, 1024, 3),
        "encoder.encoders.23.self_attn.linear_q.bias": (1024,),
        "encoder.encoders.23.feed_forward.w_1.weight": (4096, 1024),
        "adapter.conv.2.weight": (1024, 1024, 3),
        "adapter.transformer.encoders.3.self_attn.linear_k.bias": (1024,),
        "adapter.transformer.encoders.3.feed_forward.w_2.weight": (1024, 2560),
        "adapter.proj.weight": (4096, 1024),
        "speech_token_embed.weight": (4099, 4096),
        "decoder.model.embed_tokens.weight": (153376, 4096),
        "decoder.model.layers.33.self_attn.k_proj.weight": (1024, 4096),
        "decoder.model.layers.33.self_attn.k_proj.lora_B.weight": (1024, 64),
        "decoder.model.layers.33.self_attn.o_proj.bias": (4096,),
        "decoder.model.layers.33.mlp.down_proj.weight": (4096, 12800),
        "decoder.model.layers.33.mlp.down_proj.lora_A.weight": (64, 12800),
        "decoder.lm_head.weight": (153376, 4096),
    }
    assert {name: pangu[name] for name in published} == published
    assert not [n for n in pangu if n.startswith("encoder.") and n.endswith("linear_k.bias")]
    assert not [n for n in pangu if "up_proj.lora" in n]


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_can_be_built(name):
    params = shapes(name)
    cfg = preset(name)
    assert params["adapter.proj.weight"] == (cfg.decoder.d_model, cfg.encoder.d_model)


# parameters of the whole models are in Radford et al. 2022, Table 1; heads are 64 wide in all of them
@pytest.mark.parametrize(
    "name, width, layers",
    [
        ("tiny", 384, 4),
        ("base", 512, 6),
        ("small", 768, 12),
        ("medium", 1024, 24),
        ("large-v3", 1280, 32),
    ],
)
def test_whisper_encoders(name, width, layers):
    enc = ENCODERS[name]
    assert (enc.d_model, enc.n_layers, enc.d_ff) == (width, layers, 4 * width)
    assert enc.d_model // enc.n_heads == 64
    assert enc.n_mels == (128 if name == "large-v3" else 80)


def test_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'osum_pangu_7b'"):
        preset("osum-pangu-7b")


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 10.0])
def test_an_impossible_dropout_is_named(dropout):
    cfg = preset("tiny")
    with pytest.raises(UserError, match="lora.dropout must be 0 or more and below 1"):
        replace(cfg, lora=replace(cfg.lora, dropout=dropout))
