"""A Whisper config.json: what our cells do not compute is refused."""

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.models.whisper.hugging_face import encoder_values

transformers = pytest.importorskip("transformers", reason="needs transformers to describe a Whisper")


def test_whisper_variants_we_do_not_compute_are_refused():
    values = transformers.WhisperConfig(encoder_attention_heads=3).to_dict()
    assert encoder_values(values, "x")["n_heads"] == 3
    for changes in ({"activation_function": "relu"}, {"scale_embedding": True}):
        with pytest.raises(UserError, match="not supported"):
            encoder_values(values | changes, "x")
