"""Parameter tables of the full model and its published form; does not import MindSpore."""

from dataclasses import replace

from mindspore_osum.config import merge
from mindspore_osum.models.firered import keys as firered
from mindspore_osum.models.firered.config import MAX_FRAMES, FireRedConfig
from mindspore_osum.models.forms import Folder, Form, Other
from mindspore_osum.models.llama import keys as llama
from mindspore_osum.models.projector import keys as projector
from mindspore_osum.models.table import Batched, Shapes, Table
from mindspore_osum.models.whisper import keys as whisper
from mindspore_osum.systems.touch_asu import descriptions
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig

_POSITIONS = whisper.STORED_POSITIONS
_POSITIONS = replace(
    _POSITIONS,
    names={
        **_POSITIONS.names,
        "published": Batched("embed.pos_enc.pe"),
        "whisper_folder": "embed_positions",
    },
)
PUBLISHED = Form(
    "published",
    "published TouchASU",
    {"encoder": "encoder.encoder.", "adapter": "projector.", "decoder": "llm."},
    "model",
    lora="with",
    others=(
        Other("encoder.decoder.*", "dropped", "its text decoder, which older versions saved"),
        Other("encoder.ctc.*", "dropped", "its CTC head, which older versions saved"),
    ),
    marks=("projector.conv1d.weight",),
    folder=Folder(
        "config.json",
        lambda cfg, base: descriptions.described(cfg),
        descriptions.stated,
        model_types=(TouchAsuConfig.model_type,),
        beside=(descriptions.GENERATION,),
        more=lambda cfg: {descriptions.GENERATION: descriptions.generation(cfg)},
    ),
)


def _unpadded(form: Form) -> Form:
    """A form of an encoder, whose recordings are not padded here although its own are."""

    def read(stated):
        return lambda values, where: merge(stated(values, where), {"encoder": {"pad_to_seconds": 0.0}})

    folder = replace(form.folder, stated=read(form.folder.stated)) if form.folder else None
    return replace(form, folder=folder, header=read(form.header) if form.header else None)


FORMS = (
    PUBLISHED,
    llama.HUGGING_FACE,
    *map(_unpadded, (whisper.HUGGING_FACE, whisper.OPENAI, whisper.WENET, whisper.FOLDER)),
    firered.WENET,
    llama.PEFT,
)


def tables(cfg: TouchAsuConfig | None = None) -> tuple[Table, ...]:
    """The model's parameters in the order of files, for `cfg`; without it only names."""
    encoder, adapter, decoder = {}, {}, {}
    rows = (_POSITIONS, *whisper.ROWS, firered.STORED_POSITIONS, *firered.ROWS)
    if cfg is not None:
        if isinstance(cfg.encoder, FireRedConfig):
            rows = (firered.STORED_POSITIONS, *firered.ROWS)
            encoder = firered.values(cfg.encoder, cfg.positions)
        else:
            rows = (_POSITIONS, *whisper.ROWS)
            encoder = whisper.values(cfg.encoder) | {"positions": cfg.positions}
        adapter = projector.values(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model)
        decoder = llama.values(cfg.decoder, cfg.lora)
    return (
        Table("encoder", rows, encoder, ("encoder",)),
        Table("adapter", projector.ROWS, adapter, ("adapter",)),
        Table("decoder", llama.ROWS, decoder, ("decoder", "lora")),
    )


def has_firered(found: Shapes) -> bool:
    """Whether the encoder of a checkpoint is FireRed's."""
    return bool(firered.infer(found, "encoder."))


def with_firered(cfg: TouchAsuConfig) -> TouchAsuConfig:
    """The same model with a FireRed encoder, as in WEST's recipes."""
    return replace(
        cfg,
        encoder=FireRedConfig(),
        positions=MAX_FRAMES,
        adapter=replace(cfg.adapter, stride=2),
        wenet="firered",
    )


def infer(found: Shapes, base: TouchAsuConfig, given: dict, assumed: str) -> tuple[dict, list[str]]:
    """As `System.infer`."""
    needs: list[str] = []
    sections = {name: given.get(name, {}) for name in ("encoder", "decoder", "lora")}
    width = found.get("encoder.after_norm.weight", (0,))[0]
    if width and width % 64 == 0:  # of every published Whisper
        sections["encoder"] = {"n_heads": width // 64} | sections["encoder"]
    out = {
        "encoder": firered.infer(found, "encoder.")
        or whisper.infer(found, "encoder.", base.encoder, sections["encoder"], needs),
        "adapter": projector.infer(found, "adapter."),
        "decoder": llama.infer(found, "decoder.", base.decoder, sections["decoder"], needs),
        "lora": llama.infer_lora(found, base.lora, sections["lora"], needs),
    }
    if out["encoder"] and "n_heads" in sections["encoder"]:
        out["encoder"]["n_heads"] = sections["encoder"]["n_heads"]
    if "encoder.embed_positions.weight" in found:
        rows = found["encoder.embed_positions.weight"][0]
        out["positions"] = (rows + 1) // 2 if "kind" in out["encoder"] else rows
    if out["adapter"] and not out["lora"]:
        out["lora"] = {"rank": 0}  # a full model without adapters never had any, or has them merged
    if assumed:
        needs += llama.misfit(out["decoder"], base.decoder, assumed)
    return {key: value for key, value in out.items() if value != {}}, needs
