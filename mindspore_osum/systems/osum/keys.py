"""Parameter tables of the full model: its parts, its own parameters, the published form.

Does not import MindSpore.
"""

from mindspore_osum.models.adapters import keys as adapters
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.models.forms import Form, Other
from mindspore_osum.models.llama import keys as llama
from mindspore_osum.models.table import Row, Shapes, Table, affine
from mindspore_osum.models.whisper import keys as whisper
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.presets import PRESETS
from mindspore_osum.systems.osum.vllm import VLLM

MARKS = 2  # last rows of the speech-token embedding, after those of the speech tokens: begin and end
# published with this spelling
_OWN = (
    Row("speech_token_embed", {"published": "speech_token_emded"}, affine("rows", "d_model", bias=False)),
)
_ALIAS = "alias of the decoder's"

PUBLISHED = Form(
    "published",
    "published OSUM / OSUM-Pangu",
    {"encoder": "encoder.", "adapter": "", "": "", "decoder": "llama_model."},
    "model",
    lora="with",
    others=(
        Other("embed_tokens.weight", "copy", _ALIAS, of="llama_model.model.embed_tokens.weight"),
        Other("lm_head.weight", "copy", _ALIAS, of="llama_model.lm_head.weight"),
        whisper.positions("encoder.embed.pos_enc.pe", 30000, batched=True),
        adapters.POSITIONS,
        Other("ln_speech.*", "aside", "constructed but never used by the published model"),
        Other("speech_head.*", "aside", "output of speech tokens, not used for text"),
        Other("speaker_head.*", "aside", "output of speech tokens (OSUM), not used for text"),
        llama.INV_FREQ,
    ),
    marks=("encoder.after_norm.weight", "llama_model.*"),
)
FORMS = (
    PUBLISHED,
    llama.HUGGING_FACE,
    whisper.HUGGING_FACE,
    whisper.OPENAI,
    whisper.FOLDER,
    llama.PEFT,
    VLLM,
)


def tables(cfg: ModelConfig | None = None) -> tuple[Table, ...]:
    """The model's parameters in the order of files, for `cfg`; without it only names, for all adapters."""
    if cfg is None:
        values: dict = {"encoder": {}, "adapter": {}, "": {}, "decoder": {}}
    else:
        values = {
            "encoder": whisper.values(cfg.encoder),
            "adapter": adapters.values(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model),
            "": {"rows": cfg.speech_token_num + MARKS, "d_model": cfg.decoder.d_model},
            "decoder": llama.values(cfg.decoder, cfg.lora),
        }
    adapter_rows = adapters.rows(*(kinds() if cfg is None else (cfg.adapter.kind,)))
    return (
        Table("encoder", whisper.ROWS, values["encoder"], ("encoder",)),
        Table("adapter", adapter_rows, values["adapter"], ("adapter",)),
        Table("", _OWN, values[""]),
        Table("decoder", llama.ROWS, values["decoder"], ("decoder", "lora")),
    )


def infer(found: Shapes, base: ModelConfig, given: dict, assumed: str) -> tuple[dict, list[str]]:
    """As `System.infer`."""
    out: dict = {}
    needs: list[str] = []

    def of(section: str) -> dict:
        return given.get(section, {})

    out["encoder"] = whisper.infer(found, "encoder.", base.encoder, of("encoder"), needs)
    width = base.encoder.d_model
    out["adapter"] = adapters.infer(found, "adapter.", base.adapter, width, of("adapter"), needs)
    if "speech_token_embed.weight" in found:
        out["speech_token_num"] = found["speech_token_embed.weight"][0] - MARKS
    out["decoder"] = llama.infer(found, "decoder.", base.decoder, of("decoder"), needs)
    out["lora"] = llama.infer_lora(found, base.lora, of("lora"), needs)
    if out["adapter"] and not out["lora"]:
        # a full model without adapters has them merged; a part gives no information
        out["lora"] = {"rank": 0}
    if assumed:
        sizes = {key: out["decoder"].get(key) for key in ("d_model", "n_layers", "vocab_size")}
        same = (name for name, cfg in PRESETS.items() if sizes.items() <= vars(cfg.decoder).items())
        fits = next((f"; --preset {name} has these sizes" for name in same), "")
        needs += [line + fits for line in llama.misfit(out["decoder"], base.decoder, assumed)]
    return {key: value for key, value in out.items() if value != {}}, needs
