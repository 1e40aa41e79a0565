"""LoRA adapters alone, in the folder of the PEFT library: adapter_config.json and adapter_model.safetensors.

The tensors are those of `key_tables.PEFT`; rank and targets are read off them and compared with what the
configuration says. What PEFT can do and our LoRA does not (DoRA, ranks of single modules, trained biases or
whole modules, some layers only) is refused by name. Source: peft 0.17, tuners/lora/config.py.
"""

import math
from pathlib import Path

from ckpt_convert.hf_config import Reader
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.models.llama.config import LoraConfig

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

# key -> the values that change nothing, and why others are not supported
_NEUTRAL = {
    "bias": (("none",), "biases beside the adapters have no place"),
    "use_dora": ((False,), "DoRA is not LoRA"),
    "fan_in_fan_out": ((False,), "weights are (out, in)"),
    "lora_bias": ((False,), "the adapters have no biases"),
    "rank_pattern": (({},), "all modules have one rank"),
    "alpha_pattern": (({},), "all modules have one alpha"),
    "modules_to_save": (([],), "only adapters are taken"),
    "layers_to_transform": ((), "all layers have adapters"),
    "layer_replication": ((), "layers are not repeated"),
    "trainable_token_indices": ((), "only adapters are taken"),
    "target_parameters": (([],), "adapters belong to modules"),
    # PiSSA, CorDA, OLoRA and LoftQ move a part of the base weights into the adapters
    "init_lora_weights": (
        (True, False, "gaussian", "eva", "orthogonal"),
        "it changes the base weights; save the adapters as plain LoRA",
    ),
}


def lora_values(folder: Path) -> dict:
    """`LoraConfig` values that adapter_config.json states, without the targets.

    Raises
    ------
    UserError : no such file, another method than LoRA, or a setting that our LoRA does not have.
    """
    path = folder / ADAPTER_CONFIG
    values = read_json(path)
    read = Reader(values, str(path))
    read.refuse("peft_type", ("LORA",), "only LoRA is")
    for key, (neutral, why) in _NEUTRAL.items():
        read.refuse(key, neutral, why)
    rank = read.get("r", int)
    if rank < 1:
        raise UserError(f"{path}: r must be above 0, not {rank}")
    alpha = read.get("lora_alpha", float)
    if read.get("use_rslora", bool, False):
        alpha *= math.sqrt(rank)  # rank-stabilised: scaled by alpha / sqrt(r) instead of alpha / r
    return {"rank": rank, "alpha": alpha, "dropout": read.get("lora_dropout", float, 0.0)}


def check_targets(folder: Path, found: set[str]) -> None:
    """Refuse a list of target_modules that is not that of the tensors; a pattern is left to the tensors."""
    stated = read_json(folder / ADAPTER_CONFIG).get("target_modules")
    if isinstance(stated, list):
        named = {str(name).rpartition(".")[2] for name in stated}
        odd = sorted(named ^ found)
        if odd:
            side = ADAPTER_CONFIG if odd[0] in named else ADAPTER_WEIGHTS
            raise UserError(f"{folder}: target module {odd[0]!r} is only in {side}; the folder is incomplete")


def adapter_config(lora: LoraConfig, base: str | None) -> dict:
    """The adapter_config.json of our LoRA; `base` is the name or path of the base model, if it is known."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
