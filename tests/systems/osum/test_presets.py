"""The named models have the sizes and the parameters of what they are named after.

That the shapes are those of the cells is tested for every preset in test_keys.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.systems.registry import preset


def count(params: dict[str, tuple], prefix: str) -> int:
    return sum(int(np.prod(shape)) for name, shape in params.items() if name.startswith(prefix))


def test_7b_has_the_published_sizes():
    pangu = SYSTEM.shapes(preset("osum_pangu_7b"))
    lora = {name: shape for name, shape in pangu.items() if "lora_" in name}
    assert count(pangu, "decoder.") - count(lora, "decoder.") == 8_030_887_936  # openPangu-Embedded-7B-V1.1
    assert count(lora, "decoder.") == pytest.approx(131.5e6, rel=1e-3)
    assert count(pangu, "encoder.") == pytest.approx(305.7e6, rel=1e-3)
    assert count(pangu, "adapter.conv.") == pytest.approx(9.44e6, rel=1e-3)
    assert count(pangu, "adapter.transformer.") == pytest.approx(38.85e6, rel=1e-3)


def test_7b_has_the_published_shapes():
    pangu = SYSTEM.shapes(preset("osum_pangu_7b"))
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


def test_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'osum_pangu_7b'"):
        preset("osum-pangu-7b")


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 10.0])
def test_an_impossible_dropout_is_named(dropout):
    cfg = preset("tiny")
    with pytest.raises(UserError, match="lora.dropout must be 0 or more and below 1"):
        replace(cfg, lora=replace(cfg.lora, dropout=dropout))
