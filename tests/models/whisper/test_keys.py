"""The encoder's table against its cells, and its forms."""

import pytest

from mindspore_osum.models.table import Table, shapes
from mindspore_osum.models.whisper import keys
from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig

NAMES = Table("encoder", keys.ROWS)
HUGGING_FACE, OPENAI = keys.HUGGING_FACE.of([NAMES]), keys.OPENAI.of([NAMES])


def shapes_of(cfg: EncoderConfig) -> dict:
    return shapes([Table("encoder", keys.ROWS, keys.values(cfg))])


@pytest.mark.parametrize("cfg", ENCODERS.values(), ids=ENCODERS)
def test_shapes_are_those_of_the_cells(cfg):
    pytest.importorskip("mindspore")
    from mindspore.nn.utils import no_init_parameters

    from mindspore_osum.models.whisper.network import WhisperEncoder

    with no_init_parameters():
        cells = {f"encoder.{n}": tuple(p.shape) for n, p in WhisperEncoder(cfg).parameters_and_names()}
    assert shapes_of(cfg) == cells


@pytest.mark.parametrize("cfg", ENCODERS.values(), ids=ENCODERS)
def test_sizes_are_read_back(cfg):
    needs = []
    read = keys.infer(shapes_of(cfg), "encoder.", EncoderConfig(), {}, needs)
    assert read == {key: vars(cfg)[key] for key in ("n_mels", "d_model", "n_layers", "d_ff")}
    assert bool(needs) == (cfg.d_model != EncoderConfig().d_model)  # then nobody tells the heads
    assert keys.infer({}, "encoder.", EncoderConfig(), {}, needs) == {}


def test_with_and_without_model_prefix():
    for prefix in ("", "model."):
        assert (
            HUGGING_FACE.ours(f"{prefix}encoder.layers.0.fc1.bias")
            == "encoder.encoders.0.feed_forward.w_1.bias"
        )
        assert HUGGING_FACE.other(f"{prefix}decoder.layers.0.fc1.bias").kind == "dropped"
    assert HUGGING_FACE.other("proj_out.weight").kind == "dropped"


def test_openai_names():
    assert OPENAI.ours("encoder.blocks.11.mlp.2.weight") == "encoder.encoders.11.feed_forward.w_2.weight"
    assert OPENAI.theirs("encoder.after_norm.bias") == "encoder.ln_post.bias"
    assert OPENAI.ours("encoder.blocks.0.attn.key.bias") is None
    assert OPENAI.is_marked(["x", "encoder.ln_post.weight"]) and not OPENAI.is_marked(
        ["encoder.conv1.weight"]
    )
