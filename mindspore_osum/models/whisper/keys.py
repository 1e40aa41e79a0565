"""Names, shapes and forms of Whisper's parameters; does not import MindSpore.

Sources: modules of the published OSUM code (WeNet's), transformers' Whisper, openai-whisper's model.py.
"""

from mindspore_osum.config import Reader
from mindspore_osum.errors import UserError
from mindspore_osum.models.forms import Computed, Folder, Form, Other
from mindspore_osum.models.positions import sinusoids
from mindspore_osum.models.table import (
    Batched,
    Param,
    Row,
    Shapes,
    Values,
    Whole,
    affine,
    axis_of,
    read_sizes,
)
from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig
from mindspore_osum.models.whisper.hugging_face import encoder_hf_config, encoder_values, openai_values


def _rows(params: tuple[Param, ...], ours: str, hugging_face: str, openai: str) -> Row:
    names = {"published": ours, "wenet": ours, "hf_whisper": hugging_face, "openai_whisper": openai}
    names |= {"whisper_folder": ours}
    return Row(ours, names, params, "n_layers" if "{i}" in ours else "")


_D = "d_model"
_SQUARE, _NORM = affine(_D, _D), affine(_D)
# parameters             ours and published                       Hugging Face                openai
ROWS = (
    _rows(affine(_D, "n_mels", 3), "embed.conv.0", "conv1", "conv1"),
    _rows(affine(_D, _D, 3), "embed.conv.2", "conv2", "conv2"),
    *(
        _rows(params, f"encoders.{{i}}.{ours}", f"layers.{{i}}.{hugging_face}", f"blocks.{{i}}.{openai}")
        for params, ours, hugging_face, openai in (
            (_SQUARE, "self_attn.linear_q", "self_attn.q_proj", "attn.query"),
            (affine(_D, _D, bias=False), "self_attn.linear_k", "self_attn.k_proj", "attn.key"),
            (_SQUARE, "self_attn.linear_v", "self_attn.v_proj", "attn.value"),
            (_SQUARE, "self_attn.linear_out", "self_attn.out_proj", "attn.out"),
            (affine("d_ff", _D), "feed_forward.w_1", "fc1", "mlp.0"),
            (affine(_D, "d_ff"), "feed_forward.w_2", "fc2", "mlp.2"),
            (_NORM, "norm1", "self_attn_layer_norm", "attn_ln"),
            (_NORM, "norm2", "final_layer_norm", "mlp_ln"),
        )
    ),
    _rows(_NORM, "after_norm", "layer_norm", "ln_post"),
)

STORED_POSITIONS = Row(
    "embed_positions",
    {
        "wenet": Batched("embed.pos_enc.pe"),
        "hf_whisper": "embed_positions",
        "openai_whisper": Whole("positional_embedding"),
    },
    affine("positions", _D, bias=False),
)
"""The encoder's positions, where they are a parameter."""

_TOKENS = {"wenet": "embed.0", "hf_whisper": "embed_tokens", "openai_whisper": "token_embedding"}
_PLACES = {
    "wenet": Batched("embed.1.pe"),
    "hf_whisper": "embed_positions",
    "openai_whisper": Whole("positional_embedding"),
}
DECODER_ROWS = (
    Row("embed_tokens", _TOKENS, affine("vocab_size", _D, bias=False)),
    Row("embed_positions", _PLACES, affine("max_positions", _D, bias=False)),
    *(
        _rows(params, f"decoders.{{i}}.{ours}", f"layers.{{i}}.{hugging_face}", f"blocks.{{i}}.{openai}")
        for params, ours, hugging_face, openai in (
            (_SQUARE, "self_attn.linear_q", "self_attn.q_proj", "attn.query"),
            (affine(_D, _D, bias=False), "self_attn.linear_k", "self_attn.k_proj", "attn.key"),
            (_SQUARE, "self_attn.linear_v", "self_attn.v_proj", "attn.value"),
            (_SQUARE, "self_attn.linear_out", "self_attn.out_proj", "attn.out"),
            (_SQUARE, "src_attn.linear_q", "encoder_attn.q_proj", "cross_attn.query"),
            (affine(_D, _D, bias=False), "src_attn.linear_k", "encoder_attn.k_proj", "cross_attn.key"),
            (_SQUARE, "src_attn.linear_v", "encoder_attn.v_proj", "cross_attn.value"),
            (_SQUARE, "src_attn.linear_out", "encoder_attn.out_proj", "cross_attn.out"),
            (affine("d_ff", _D), "feed_forward.w_1", "fc1", "mlp.0"),
            (affine(_D, "d_ff"), "feed_forward.w_2", "fc2", "mlp.2"),
            (_NORM, "norm1", "self_attn_layer_norm", "attn_ln"),
            (_NORM, "norm2", "encoder_attn_layer_norm", "cross_attn_ln"),
            (_NORM, "norm3", "final_layer_norm", "mlp_ln"),
        )
    ),
    _rows(_NORM, "after_norm", "layer_norm", "ln"),
)


def positions(key: str, usual: int, batched: bool = False) -> Other:
    """The encoder's positional table in a checkpoint."""
    computed = Computed(
        "encoder", _D, lambda values, first, n: sinusoids(n, values[_D], first), usual, batched
    )
    return Other(key, "derived", "positions are computed, not stored", computed=computed)


_NO_TEXT_DECODER = "Whisper's text decoder is not part of this model"
HUGGING_FACE = Form(
    "hf_whisper",
    "Hugging Face Whisper",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.embed_positions.weight", 1500),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
        Other("proj_out.weight", "dropped", _NO_TEXT_DECODER),
    ),
    strip=("model.",),
    folder=Folder(
        "config.json",
        lambda cfg, base: encoder_hf_config(cfg.encoder) | {"dtype": cfg.dtype},
        lambda values, where: {"encoder": encoder_values(values, where)},
        model_types=("whisper",),
    ),
)
OPENAI = Form(
    "openai_whisper",
    "openai-whisper",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.positional_embedding", 1500),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
    ),
    marks=("encoder.ln_post.weight",),
    header=lambda beside, where: (
        {"encoder": openai_values(beside["dims"], f"{where}: dims")}
        if isinstance(beside.get("dims"), dict)
        else {}
    ),
)
WENET = Form(
    "wenet",
    "WeNet's Whisper",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.embed.pos_enc.pe", 1500, batched=True),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
        Other("ctc.*", "dropped", "its CTC head is not part of this model"),
    ),
    marks=("encoder.after_norm.weight",),
)


def _not_written(cfg, base) -> dict:
    raise UserError("an OSUM model has no Whisper folder; write its encoder with --to hf_whisper")


FOLDER = Form(
    "whisper_folder",
    "Whisper folder",
    {"encoder": "encoder."},
    "encoder",
    others=(
        positions("encoder.embed_positions.weight", 1500),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
    ),
    folder=Folder(
        "config.json",
        _not_written,
        lambda values, where: {"encoder": Reader(values, where).get("encoder", dict)},
        model_types=("whisper_asr",),
    ),
)
"""A model folder of ours whose encoder begins an OSUM model, as OSUM's first stage leaves it."""


def values(cfg: EncoderConfig) -> Values:
    """Values of the names in `ROWS`."""
    return vars(cfg)


def infer(found: Shapes, prefix: str, base: EncoderConfig, given: dict, needs: list[str]) -> dict:
    """Infer `EncoderConfig` values from tensors.

    Parameters
    ----------
    found : our names -> shapes.
    prefix : prefix of the names of this part.
    base : source of head counts if `given` has none and the width is equal.
    given : values from the user or the source's own description.
    needs : gets a line for each value that cannot be determined.

    Returns
    -------
    The values; empty if there is no encoder in `found`.
    """
    first = f"{prefix}embed.conv.0.weight"
    if first not in found:
        return {}
    d = axis_of(found, first, 0)
    if "n_heads" not in given and d != base.d_model:
        needs.append(f"encoder.n_heads (width {d}, preset {base.d_model}; Whisper has a head for every 64)")
    return read_sizes(ROWS, prefix, found, vars(base).keys())


def infer_decoder(found: Shapes, prefix: str, base: TextDecoderConfig, given: dict, needs: list[str]) -> dict:
    """Infer `TextDecoderConfig` values from tensors; arguments and result as of `infer`."""
    first = f"{prefix}embed_tokens.weight"
    if first not in found:
        return {}
    d = axis_of(found, first, 1)
    if "n_heads" not in given and d != base.d_model:
        needs.append(f"decoder.n_heads (width {d}, preset {base.d_model}; Whisper has a head for every 64)")
    return read_sizes(DECODER_ROWS, prefix, found, vars(base).keys())
