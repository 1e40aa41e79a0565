"""WeNet's train.yaml of a FireRed encoder -> our configuration; does not import MindSpore."""

from mindspore_osum.config import Reader
from mindspore_osum.models.firered.config import FireRedConfig

# what our cells are; WeNet's defaults are others
_ONLY = {
    "input_layer": "firered_conv2d4",
    "pos_enc_layer_type": "rel_pos_firered",
    "selfattention_layer_type": "firered_rel_selfattn",
    "activation_type": "swish",
    "cnn_module_norm": "layer_norm",
    "conv_inner_factor": 4,
    "query_bias": False,
    "key_bias": False,
    "value_bias": False,
    "conv_bias": False,
    "final_norm": False,
    "use_dynamic_chunk": False,
}
_SIZES = {
    "d_model": "output_size",
    "n_layers": "num_blocks",
    "n_heads": "attention_heads",
    "d_ff": "linear_units",
    "kernel": "cnn_module_kernel",
}


def encoder_values(read: Reader) -> dict:
    """Values of `FireRedConfig` in an `encoder_conf`.

    Raises
    ------
    UserError : a setting that our cells do not implement, or a size that is missing.
    """
    for key, value in _ONLY.items():
        read.refuse(key, (value,), "the encoder is FireRedASR's")
    sizes = {ours: read.get(theirs, int) for ours, theirs in _SIZES.items()}
    return {"kind": FireRedConfig.kind} | sizes
