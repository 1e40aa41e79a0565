"""Opens a checkpoint of any known form and says which form it is.

A source is a model folder of ours, a Hugging Face folder (decoder or Whisper), a folder of PEFT adapters,
or a file of published names (`.pt` or `.safetensors`) or of openai-whisper (`.pt`).
"""

from dataclasses import dataclass, field
from pathlib import Path

from ckpt_convert import hf_config, peft_folder
from ckpt_convert.key_tables import HF_DECODER, HF_WHISPER, OPENAI_WHISPER, PEFT, PUBLISHED, Form
from ckpt_convert.torch_reader import TorchWeights, open_torch
from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, is_own_config, read_config
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.weights_io import INDEX, SINGLE, Weights, open_weights

EXTRAS = "extras.safetensors"  # in our folder: published tensors that our model does not use
_HF_TORCH = "pytorch_model.bin"


@dataclass
class Source:
    """An opened checkpoint.

    Attributes
    ----------
    form : its key table; None for a folder of ours.
    stated : configuration values that its own config states, nested as in `ModelConfig`.
    config, extras : the whole configuration, and the tensors kept aside if any, for a folder of ours.
    label : put before its keys in a report, where several sources are joined.
    """

    path: Path
    form: Form | None
    weights: Weights
    stated: dict = field(default_factory=dict)
    config: ModelConfig | None = None
    extras: Weights | None = None
    label: str = ""

    def ours(self, key: str) -> str | None:
        """Our name of the source's key, or None."""
        return key if self.form is None else self.form.ours(key)

    def close(self) -> None:
        """Close its files."""
        self.weights.close()
        if self.extras is not None:
            self.extras.close()


def is_ours(path: Path) -> bool:
    """Whether a path is a model folder of ours."""
    return (path / CONFIG).is_file() and is_own_config(hf_config.read_hf_config(path))


def open_source(path: str | Path) -> Source:
    """Open a checkpoint; UserError when it is none of the known forms."""
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    weights = open_weights(path) if path.suffix == ".safetensors" else open_torch(path)
    try:
        return _from_keys(path, weights)
    except UserError:
        weights.close()
        raise


def _open_folder(path: Path) -> Source:
    if (path / peft_folder.ADAPTER_CONFIG).is_file():
        return _open_adapters(path)
    if not (path / CONFIG).is_file():
        raise UserError(f"{path}: no {CONFIG} in this folder, so what is in it is not known")
    if is_ours(path):
        aside = path / EXTRAS
        extras = open_weights(aside) if aside.exists() else None
        return Source(path, None, open_weights(path), config=read_config(path), extras=extras)
    values, where = hf_config.read_hf_config(path), str(path / CONFIG)
    if values.get("model_type") == "whisper":
        return Source(
            path, HF_WHISPER, _hf_weights(path), {"encoder": hf_config.encoder_values(values, where)}
        )
    return Source(path, HF_DECODER, _hf_weights(path), {"decoder": hf_config.decoder_values(values, where)})


def _open_adapters(path: Path) -> Source:
    values = peft_folder.lora_values(path)
    if not (path / peft_folder.ADAPTER_WEIGHTS).exists():
        raise UserError(f"{path}: no {peft_folder.ADAPTER_WEIGHTS}; save the adapters as safetensors")
    weights = open_weights(path / peft_folder.ADAPTER_WEIGHTS)
    names = [name for key in weights.infos if (name := PEFT.ours(key))]
    found = {name.split(".")[-3] for name in names}
    try:
        peft_folder.check_targets(path, found)
    except UserError:
        weights.close()
        raise
    known = [target for target in LoraConfig().targets if target in found]
    values["targets"] = [*known, *sorted(found - set(known))]
    return Source(path, PEFT, weights, {"lora": values})


def _hf_weights(path: Path) -> Weights:
    old = path / _HF_TORCH
    if old.exists() and not (path / SINGLE).exists() and not (path / INDEX).exists():
        return open_torch(old)
    return open_weights(path)


def _from_keys(path: Path, weights: Weights) -> Source:
    """The form of a file that has no config.json beside it, by its keys."""
    for form in (OPENAI_WHISPER, PUBLISHED):
        if any(form.ours(key) == "encoder.after_norm.weight" for key in weights.infos):
            stated = {}
            dims = weights.extra.get("dims") if isinstance(weights, TorchWeights) else None
            if form is OPENAI_WHISPER and isinstance(dims, dict):
                stated = {"encoder": hf_config.openai_values(dims, f"{path}: dims")}
            return Source(path, form, weights, stated)
    if any(PUBLISHED.plain(key).startswith("llama_model.") for key in weights.infos):
        return Source(path, PUBLISHED, weights)
    keys = ", ".join(repr(key)[:60] for key in list(weights.infos)[:3])
    raise UserError(
        f"{path}: its keys ({keys}, ...) are of no known form; "
        "a Hugging Face model is given as its folder, with config.json"
    )
