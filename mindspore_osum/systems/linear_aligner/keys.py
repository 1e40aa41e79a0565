"""Parameter tables of the full model: its parts and its forms.

No code of the paper is published, so the form of a whole model in one file is ours; its parts have the
published names of Whisper, `nn.Linear` and the decoder. Does not import MindSpore.
"""

from dataclasses import replace

from mindspore_osum.models.aligner import keys as aligner
from mindspore_osum.models.forms import Form
from mindspore_osum.models.llama import keys as llama
from mindspore_osum.models.table import Shapes, Table
from mindspore_osum.models.whisper import keys as whisper
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig

_NAME = "linear_aligner"
_ENCODER = tuple(replace(row, names={**row.names, _NAME: row.names["hf_whisper"]}) for row in whisper.ROWS)
_DECODER = tuple(replace(row, names={**row.names, _NAME: row.ours}) for row in llama.ROWS)
WHOLE = Form(
    _NAME,
    "linear aligner in one file",
    {"encoder": "encoder.", "adapter": "aligner.", "decoder": "llm."},
    "model",
    lora="with",
    others=(llama.INV_FREQ,),
    marks=("aligner.weight",),
)
FORMS = (
    WHOLE,
    aligner.FILE,
    llama.HUGGING_FACE,
    whisper.HUGGING_FACE,
    whisper.OPENAI,
    whisper.FOLDER,
    llama.PEFT,
)


def tables(cfg: LinearAlignerConfig | None = None) -> tuple[Table, ...]:
    """The model's parameters in the order of files, for `cfg`; without it only names."""
    values: dict = {"encoder": {}, "adapter": {}, "decoder": {}}
    if cfg is not None:
        values = {
            "encoder": whisper.values(cfg.encoder),
            "adapter": aligner.values(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model),
            "decoder": llama.values(cfg.decoder, cfg.lora),
        }
    return (
        Table("encoder", _ENCODER, values["encoder"], ("encoder",)),
        Table("adapter", aligner.ROWS, values["adapter"], ("adapter",)),
        Table("decoder", _DECODER, values["decoder"], ("decoder", "lora")),
    )


def infer(found: Shapes, base: LinearAlignerConfig, given: dict) -> tuple[dict, list[str]]:
    """As `System.infer`."""
    needs: list[str] = []
    encoder, decoder = given.get("encoder", {}), given.get("decoder", {})
    out = {
        "encoder": whisper.infer(found, "encoder.", base.encoder, encoder, needs),
        "decoder": llama.infer(found, "decoder.", base.decoder, decoder, needs),
        "lora": llama.infer_lora(found, base.lora, given.get("lora", {}), needs),
    }
    width = out["decoder"].get("d_model", base.decoder.d_model)
    out["adapter"] = aligner.infer(found, "adapter.", width)
    return {key: values for key, values in out.items() if values}, needs
