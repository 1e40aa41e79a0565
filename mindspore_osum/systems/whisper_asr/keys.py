"""Parameter tables of Whisper, and its published forms; does not import MindSpore."""

from mindspore_osum.models.forms import Folder, Form, Other
from mindspore_osum.models.table import Shapes, Table, axis_of
from mindspore_osum.models.whisper import keys as whisper
from mindspore_osum.systems.whisper_asr import descriptions
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.vocabulary import PUBLISHED

_PARTS = {"encoder": "encoder.", "decoder": "decoder."}
OPENAI = Form(
    "openai_whisper",
    "openai-whisper",
    _PARTS,
    "model",
    marks=("decoder.token_embedding.weight",),
    header=descriptions.openai_stated,
    beside=descriptions.openai_dims,
)
HUGGING_FACE = Form(
    "hf_whisper",
    "Hugging Face Whisper",
    {"encoder": "model.encoder.", "decoder": "model.decoder."},
    "model",
    others=(
        Other(
            "proj_out.weight",
            "copy",
            "the output is tied to the token embedding",
            of="decoder.embed_tokens.weight",
            written=False,
        ),
    ),
    strip=("model.",),
    folder=Folder(
        "config.json",
        lambda cfg, base: descriptions.hf_config(cfg),
        descriptions.hf_stated,
        model_types=("whisper",),
        beside=(descriptions.GENERATION,),
        more=descriptions.hf_more,
    ),
)
WENET = Form(
    "wenet",
    "WeNet's Whisper",
    _PARTS,
    "model",
    others=(
        Other(
            "decoder.output_layer.weight",
            "copy",
            "the output is tied to the token embedding",
            of="decoder.embed.0.weight",
            written=False,
        ),
        Other("ctc.*", "aside", "CTC head, which Whisper does not have"),
    ),
    marks=("decoder.decoders.*.src_attn.*",),
)
FORMS = (OPENAI, HUGGING_FACE, WENET)


def tables(cfg: WhisperConfig | None = None) -> tuple[Table, ...]:
    """The model's parameters in the order of files, for `cfg`; without it only names."""
    encoder = whisper.values(cfg.encoder) | {"positions": cfg.positions} if cfg else {}
    return (
        Table("encoder", (whisper.STORED_POSITIONS, *whisper.ROWS), encoder, ("encoder",)),
        Table("decoder", whisper.DECODER_ROWS, vars(cfg.decoder) if cfg else {}, ("decoder",)),
    )


def infer(found: Shapes, base: WhisperConfig, given: dict) -> tuple[dict, list[str]]:
    """As `System.infer`."""
    needs: list[str] = []
    given = _with_heads(found, given)
    out = {
        "encoder": whisper.infer(found, "encoder.", base.encoder, given["encoder"], needs),
        "decoder": whisper.infer_decoder(found, "decoder.", base.decoder, given["decoder"], needs),
        "positions": axis_of(found, "encoder.embed_positions.weight", 0),
    }
    for part in ("encoder", "decoder"):
        out[part] |= {key: given[part][key] for key in ("n_heads",) if key in given[part]}
    rows = axis_of(found, "decoder.embed_tokens.weight", 0)
    if rows in PUBLISHED:
        out["decoder"]["eos_id"], out["languages"] = PUBLISHED[rows]
    else:
        needs += [
            f"{key} ({rows} tokens; known for {', '.join(map(str, PUBLISHED))})"
            for key, known in {
                "decoder.eos_id": "eos_id" in given["decoder"],
                "languages": "languages" in given,
            }.items()
            if not known
        ]
    return out, needs


def _with_heads(found: Shapes, given: dict) -> dict:
    """`given`, with the heads of the published widths: one for every 64."""
    given = {"encoder": {}, "decoder": {}} | given
    width = axis_of(found, "decoder.embed_tokens.weight", 1)
    if width % 64 == 0:
        given = given | {part: {"n_heads": width // 64} | given[part] for part in ("encoder", "decoder")}
    return given
