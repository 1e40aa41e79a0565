"""A decoder's config.json: our default is openPangu's, and what our cells do not compute is refused."""

import pytest

from mindspore_osum.config import from_dict
from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig
from mindspore_osum.models.llama.hugging_face import decoder_hf_config, decoder_values

PANGU = {
    "model_type": "PanguEmbedded",
    "hidden_size": 4096,
    "intermediate_size": 12800,
    "num_hidden_layers": 34,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 153376,
    "max_position_embeddings": 32768,
    "rope_theta": 16000000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bias": True,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": 45892,
}


def test_config_of_openpangu_7b_is_our_default():
    assert from_dict(DecoderConfig, decoder_values(PANGU, "x"), "x") == DecoderConfig()
    assert decoder_values(PANGU | {"eos_token_id": [45892, 2]}, "x")["eos_id"] == 45892
    newer = {k: v for k, v in PANGU.items() if k != "rope_theta"}
    newer["rope_parameters"] = {"rope_type": "default", "rope_theta": 16000000.0}
    assert decoder_values(newer, "x")["rope_theta"] == 1.6e7


REFUSED = {
    "another architecture": ({"model_type": "gemma3"}, "model_type 'gemma3'"),
    "no model_type": ({"model_type": None}, "model_type 'None'"),
    "scaled rotary": ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "of type 'llama3'"),
    "scaled rotary, old key": ({"rope_scaling": {"type": "dynamic"}}, "of type 'dynamic'"),
    "rotary of no known shape": ({"rope_scaling": "yarn"}, "rope_scaling should be of type dict"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    "biases in the MLP": ({"mlp_bias": True}, "mlp_bias"),
    "sliding window": ({"use_sliding_window": True}, "use_sliding_window"),
    "Mistral's window": ({"model_type": "mistral", "sliding_window": 4096}, "sliding_window"),
    "missing size": ({"hidden_size": None}, "'hidden_size' is missing"),
    "size as text": ({"vocab_size": "many"}, "vocab_size should be of type int"),
    "heads as a flag": ({"num_attention_heads": True}, "num_attention_heads should be of type int"),
    "no end token": ({"eos_token_id": None}, "eos_token_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_decoders_we_do_not_compute_are_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(UserError, match="x: ") as caught:
        decoder_values(PANGU | changes, "x")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        dict(qk_norm=True, qkv_bias=True, o_bias=False),
        dict(qkv_bias=False, o_bias=True),
        dict(qkv_bias=True, o_bias=False, d_model=128),
    ],
)
def test_decoders_without_a_hugging_face_form(changes):
    with pytest.raises(UserError):
        decoder_hf_config(DecoderConfig(**changes))
