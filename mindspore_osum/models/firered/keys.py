"""Names and shapes of FireRed's parameters; does not import MindSpore.

Sources: wenet/models/firered and its converter of FireRedASR-AED-L (WeNet), fireredasr/models/module/
conformer_encoder.py (FireRedASR).

Notable choices
- The mean and inverse deviation of the features are parameters, as in WeNet, whose encoder has them; the
  features themselves are the same for every model. FireRedASR has them in `cmvn.ark` beside the weights.
- Both have the table of relative positions as a buffer. It is computed here, or a parameter (as WEST saves
  it) whose rounding files keep.
"""

import numpy as np

from mindspore_osum.models.firered.config import MAX_FRAMES, FireRedConfig
from mindspore_osum.models.forms import Computed, Form, Other
from mindspore_osum.models.positions import relative_sinusoids
from mindspore_osum.models.table import Batched, Param, Row, Shapes, Values, affine, axis_of, read_sizes


def _row(params: tuple[Param, ...], wenet: str, firered: str | None) -> Row:
    """A module whose name with us, in WEST's checkpoints and in WeNet is the same."""
    names = {"published": wenet, "wenet_firered": wenet} | ({"firered": firered} if firered else {})
    return Row(wenet, names, params, "n_layers" if "{i}" in wenet else "")


_D, _INNER = "d_model", "inner"
_SQUARE, _NORM = affine(_D, _D, bias=False), affine(_D)
_UP, _DOWN = affine("d_ff", _D), affine(_D, "d_ff")
# parameters                  ours, published and WeNet             FireRedASR
ROWS = (
    _row((Param("mean", ("n_mels",)), Param("istd", ("n_mels",))), "global_cmvn", None),
    _row(affine("conv_channels", 1, 3, 3), "embed.conv.0", "input_preprocessor.conv.0"),
    _row(affine("conv_channels", "conv_channels", 3, 3), "embed.conv.2", "input_preprocessor.conv.2"),
    _row(affine(_D, "conv_channels*bands"), "embed.out.0", "input_preprocessor.out"),
    *(
        _row(params, f"encoders.{{i}}.{wenet}", f"layer_stack.{{i}}.{firered}")
        for params, wenet, firered in (
            (_NORM, "norm_ff_macaron", "ffn1.net.0"),
            (_UP, "feed_forward_macaron.w_1", "ffn1.net.1"),
            (_DOWN, "feed_forward_macaron.w_2", "ffn1.net.4"),
            (tuple(Param(f"pos_bias_{x}", ("n_heads", "head_dim")) for x in "uv"), "self_attn", "mhsa"),
            *((_NORM, f"self_attn.layer_norm_{x}", f"mhsa.layer_norm_{x}") for x in "qkv"),
            *((_SQUARE, f"self_attn.linear_{x}", f"mhsa.w_{x}s") for x in "qkv"),
            (_SQUARE, "self_attn.linear_out", "mhsa.fc"),
            (_SQUARE, "self_attn.linear_pos", "mhsa.linear_pos"),
            (_NORM, "norm_conv", "conv.pre_layer_norm"),
            (affine("gated", _D, 1, bias=False), "conv_module.pointwise_conv1", "conv.pointwise_conv1"),
            (affine(_INNER, 1, "kernel", bias=False), "conv_module.depthwise_conv", "conv.depthwise_conv"),
            (affine(_INNER), "conv_module.norm", "conv.batch_norm"),
            (affine(_D, _INNER, 1, bias=False), "conv_module.pointwise_conv2", "conv.pointwise_conv2"),
            (_NORM, "norm_ff", "ffn2.net.0"),
            (_UP, "feed_forward.w_1", "ffn2.net.1"),
            (_DOWN, "feed_forward.w_2", "ffn2.net.4"),
            (_NORM, "norm_final", "layer_norm"),
        )
    ),
)

STORED_POSITIONS = Row(
    "embed_positions",
    {
        "published": Batched("embed.pos_enc.pe"),
        "wenet_firered": Batched("embed.pos_enc.pe"),
        "firered": Batched("positional_encoding.pe"),
    },
    affine("table", _D, bias=False),
)
"""Its relative positions, where they are a parameter."""


def positions(key: str) -> Other:
    """The table of relative positions in a checkpoint."""

    def rows(values: Values, first: int, n: int):
        return relative_sinusoids(MAX_FRAMES, values[_D])[first : first + n]

    computed = Computed("encoder", _D, rows, 2 * MAX_FRAMES - 1, batched=True)
    return Other(key, "derived", "relative positions are computed, not stored", computed=computed)


_NO_DECODER = "its text decoder is not part of this model"
WENET = Form(
    "wenet_firered",
    "WeNet's FireRed",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.embed.pos_enc.pe"),
        Other("decoder.*", "dropped", _NO_DECODER),
        Other("ctc.*", "dropped", "its CTC head is not part of this model"),
    ),
    marks=("encoder.encoders.0.self_attn.layer_norm_q.weight",),
    statistics="encoder.global_cmvn.",
)
FIRERED = Form(
    "firered",
    "FireRedASR",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.positional_encoding.pe"),
        Other("decoder.*", "dropped", _NO_DECODER),
    ),
    marks=("encoder.layer_stack.0.mhsa.layer_norm_q.weight",),
)


def constant(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """What a parameter that does not learn is in a new model; None for others.

    The statistics of the features are about those of speech; a published model has its corpus's own.
    """
    if name == "embed_positions.weight":
        return relative_sinusoids((shape[0] + 1) // 2, shape[1])
    return {
        "global_cmvn.mean": np.full(shape, 14.0, np.float32),
        "global_cmvn.istd": np.full(shape, 0.25, np.float32),
    }.get(name)


def values(cfg: FireRedConfig, positions: int = MAX_FRAMES) -> Values:
    """Values of the names in `ROWS` and, for so many frames of a recording, `STORED_POSITIONS`."""
    d = cfg.d_model
    derived = {
        "bands": cfg.bands,
        "head_dim": d // cfg.n_heads,
        "inner": 2 * d,
        "gated": 4 * d,
        "table": 2 * positions - 1,
    }
    return vars(cfg) | derived


def infer(found: Shapes, prefix: str) -> dict:
    """Infer `FireRedConfig` values from tensors; nothing else has to be known.

    Parameters
    ----------
    found : our names -> shapes.
    prefix : prefix of the names of this part.

    Returns
    -------
    The values; empty if there is no such encoder in `found`. `n_mels` only where the statistics of the
    features are: the convolutions leave 19 bands of 79 to 82 bins.
    """
    if f"{prefix}encoders.0.self_attn.pos_bias_u" not in found:
        return {}
    wanted = vars(FireRedConfig()).keys() - {"n_mels"}
    sizes = {"kind": FireRedConfig.kind} | read_sizes(ROWS, prefix, found, wanted)
    if f"{prefix}global_cmvn.mean" in found:
        sizes["n_mels"] = axis_of(found, f"{prefix}global_cmvn.mean", 0)
    return sizes
