"""Parameters: names, shapes and the published form, whose decoder has names of its own."""

from dataclasses import replace

from mindspore_osum.models.forms import Form
from mindspore_osum.models.llama import keys as llama
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.models.table import Row, Table, affine, axis_of
from toy_ear.config import EarConfig

NO_LORA = LoraConfig(rank=0)
_EAR = (Row("project", {"published": "linear"}, affine("d_model", "n_mels*frames_per_token")),)


def _published(ours: str) -> str:
    return ours.removeprefix("model.").replace("layers.{i}", "blocks.{i}").replace("self_attn", "attention")


_DECODER = tuple(replace(row, names={"published": _published(row.ours)}) for row in llama.ROWS)
PUBLISHED = Form(
    "published",
    "published toy ear",
    {"ear": "front.", "decoder": "lm."},
    "model",
    marks=("front.linear.weight",),
)


def tables(cfg: EarConfig | None = None) -> tuple[Table, ...]:
    """As `System.tables`."""
    ear = vars(cfg) | {"d_model": cfg.decoder.d_model} if cfg else {}
    decoder = llama.values(cfg.decoder, NO_LORA) if cfg else {}
    return Table("ear", _EAR, ear), Table("decoder", _DECODER, decoder, ("decoder",))


def infer(found, base: EarConfig, given: dict):
    """As `System.infer`."""
    needs: list[str] = []
    decoder = llama.infer(found, "decoder.", base.decoder, given.get("decoder", {}), needs)
    stacked, n_mels = axis_of(found, "ear.project.weight", 1), given.get("n_mels", base.n_mels)
    if stacked % n_mels:
        needs.append(f"n_mels (a token is made of {stacked} values)")
    return {"decoder": decoder, "frames_per_token": stacked // n_mels}, needs
