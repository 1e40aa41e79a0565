"""The `adapter_config.json` of the PEFT library <-> `LoraConfig`.

Rank and targets are inferred from the tensors and compared with the configuration. PEFT features that our
LoRA lacks (DoRA, ranks of single modules, trained biases or full modules, some layers only) are refused by
name. Source: peft 0.17, tuners/lora/config.py.
"""

import math

from mindspore_osum.config import Reader
from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # the files of its folder

# key -> the values without effect, and why others are not supported
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


def lora_values(values: dict, where: str, names: list[str]) -> dict:
    """`LoraConfig` values.

    Parameters
    ----------
    values : contents of adapter_config.json, the file `where`.
    names : our names of the adapters' tensors.

    Raises
    ------
    UserError : another method than LoRA, a setting that our LoRA does not have, or target_modules that differ
        from the tensors (a pattern is not checked).
    """
    read = Reader(values, where)
    read.refuse("peft_type", ("LORA",), "only LoRA is")
    for key, (neutral, why) in _NEUTRAL.items():
        read.refuse(key, neutral, why)
    rank = read.get("r", int)
    if rank < 1:
        raise UserError(f"{where}: r must be above 0, not {rank}")
    alpha = read.get("lora_alpha", float)
    if read.get("use_rslora", bool, False):
        alpha *= math.sqrt(rank)  # rank-stabilised: scaled by alpha / sqrt(r) instead of alpha / r
    found = {name.split(".")[-3] for name in names}
    _check_targets(values.get("target_modules"), found, where)
    return {
        "rank": rank,
        "alpha": alpha,
        "dropout": read.get("lora_dropout", float, 0.0),
        "targets": in_order(found, LoraConfig().targets),
    }


def in_order(found: set[str], known: tuple[str, ...]) -> list[str]:
    """The modules found: known ones in our order, then the others."""
    first = [target for target in known if target in found]
    return [*first, *sorted(found - set(first))]


def _check_targets(stated, found: set[str], where: str) -> None:
    if isinstance(stated, list):
        named = {str(name).rpartition(".")[2] for name in stated}
        odd = sorted(named ^ found)
        if odd:
            side = CONFIG if odd[0] in named else WEIGHTS
            raise UserError(f"{where}: target module {odd[0]!r} is only in {side}; the folder is incomplete")


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
