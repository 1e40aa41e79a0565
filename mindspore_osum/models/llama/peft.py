"""The `adapter_config.json` of the PEFT library, and how it says that each module is adapted.

Which modules have adapters, of which rank and scale, follows from the settings as in PEFT: names in
`target_modules` less those in `exclude_modules`, `layers_to_transform`, `rank_pattern`, `alpha_pattern`,
`use_rslora`, `use_dora`. A setting that is not known here is refused by name unless it is off: it might
change what the adapters compute. Sources: peft 0.17 to 0.21, tuners/lora/config.py, tuners/tuners_utils.py.
"""

import math
import re
from dataclasses import dataclass

from mindspore_osum.config import Reader
from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # the files of its folder

# key -> the values without effect, and why others are not supported
_NEUTRAL = {
    "bias": (("none",), "biases beside the adapters have no place"),
    "fan_in_fan_out": ((False,), "weights are (out, in)"),
    "lora_bias": ((False,), "the adapters have no biases"),
    "modules_to_save": (([],), "only adapters are taken"),
    "layer_replication": (([],), "layers are not repeated"),
    "trainable_token_indices": (([], {}), "only adapters are taken"),
    "target_parameters": (([],), "adapters belong to modules"),
    "alora_invocation_tokens": (([],), "adapters work on all tokens, not only after an invocation"),
    "use_qalora": ((False,), "adapters see every input, not means of groups of them"),
    # PiSSA, CorDA, OLoRA and LoftQ move a part of the base weights into the adapters
    "init_lora_weights": (
        (True, False, "gaussian", "eva", "orthogonal"),
        "it changes the base weights; save the adapters as plain LoRA",
    ),
}
# settings that are read below, that describe the folder, or that have no effect once training has begun or
# without another setting
_KNOWN = set(
    "peft_type task_type auto_mapping base_model_name_or_path revision inference_mode peft_version "
    "runtime_config r lora_alpha lora_dropout use_rslora use_dora rank_pattern alpha_pattern target_modules "
    "exclude_modules layers_to_transform layers_pattern megatron_core qalora_group_size loftq_config "
    "eva_config corda_config lora_ga_config velora_config".split()
)
_OFF = (None, False, "", [], {})


@dataclass(frozen=True)
class PeftSettings:
    """What an adapter_config.json says about modules, by their names in the base model."""

    where: str
    rank: int
    alpha: float
    dropout: float
    rslora: bool
    dora: bool
    ranks: dict[str, int]  # end of a name (a regular expression) -> rank
    alphas: dict[str, float]
    targets: tuple[str, ...] | str | None  # ends of names, or a regular expression; None where it is not said
    excluded: tuple[str, ...] | str
    layers: tuple[int, ...] | None
    layer_lists: tuple[str, ...]  # names of the lists that `layers` counts in; empty: any

    def rank_of(self, module: str) -> int:
        """The rank of a module's adapters."""
        return _first_match(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """alpha so that the scale is alpha / rank; rank-stabilised LoRA is scaled by alpha / sqrt(rank)."""
        alpha = _first_match(self.alphas, module, self.alpha)
        return alpha * math.sqrt(self.rank_of(module)) if self.rslora else alpha

    def adapts(self, module: str) -> bool:
        """Whether a module has adapters, if the base model has it (PEFT's check_target_module_exists)."""
        if self.targets is None or self.targets == "all-linear":  # nothing is known of the modules left out
            return not _named(self.excluded, module)
        if _named(self.excluded, module) or not _named(self.targets, module):
            return False
        if isinstance(self.targets, str) or module in self.targets or self.layers is None:
            return True
        lists = self.layer_lists or (r"[^.]*",)
        found = [m for name in lists if (m := re.match(rf".*\.{name}\.(\d+)\.", module))]
        return bool(found) and int(found[0][1]) in self.layers

    def config(self, rank: int, alpha: float, found: set[str]) -> dict:
        """Values of our configuration for adapters on the modules with these last names."""
        targets = in_order(found, LoraConfig().targets)
        return {"lora": {"rank": rank, "alpha": alpha, "dropout": self.dropout, "targets": targets}}


def read_settings(values: dict, where: str) -> PeftSettings:
    """The settings in the contents `values` of the file `where`.

    Raises
    ------
    UserError : another method than LoRA, a setting that our LoRA does not have or that is unknown and not
        off, or a value of a wrong type.
    """
    read = Reader(values, where)
    read.refuse("peft_type", ("LORA",), "only LoRA is")
    for key, (neutral, why) in _NEUTRAL.items():
        read.refuse(key, neutral, why)
    for key, value in values.items():
        if key not in _KNOWN and key not in _NEUTRAL and value not in _OFF:
            raise UserError(
                f"{where}: setting {key[:60]!r} = {str(value)[:60]!r} is not known, and might change what "
                "the adapters compute; merge them with the PEFT version that wrote them and convert that"
            )
    rank = read.get("r", int)
    if rank < 1:
        raise UserError(f"{where}: r must be above 0, not {rank}")
    layers = _strings(read, "layers_to_transform", int)
    lists = _strings(read, "layers_pattern", str)
    return PeftSettings(
        where,
        rank,
        read.get("lora_alpha", float),
        read.get("lora_dropout", float, 0.0),
        read.get("use_rslora", bool, False),
        read.get("use_dora", bool, False),
        _pattern(read, "rank_pattern", int),
        _pattern(read, "alpha_pattern", float),
        _words(read, "target_modules"),
        _words(read, "exclude_modules") or (),
        layers or None,
        tuple(_expression(name, f"{where}: layers_pattern") for name in lists),
    )


def _strings(read: Reader, key: str, kind: type) -> tuple:
    """One value of a type or a list of them, as a tuple; empty if it is not said."""
    value = read.values.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(v) is not kind for v in values):
        raise UserError(f"{read.where}: {key} should be of type {kind.__name__}, not {str(value)[:40]!r}")
    return tuple(values)


def _words(read: Reader, key: str) -> tuple[str, ...] | str | None:
    """A list of ends of names, or a regular expression."""
    value = read.values.get(key)
    if isinstance(value, str):
        return _expression(value, f"{read.where}: {key}")
    return _strings(read, key, str) if value is not None else None


def _pattern(read: Reader, key: str, kind: type) -> dict:
    values = read.get(key, dict, {})
    inner = Reader(values, f"{read.where}: {key}")
    for name in values:
        _expression(str(name), inner.where)
        if inner.get(name, kind) <= 0 and kind is int:
            raise UserError(f"{inner.where}: {str(name)[:60]!r} must be above 0")
    return {name: inner.get(name, kind) for name in values}


def _expression(text: str, where: str) -> str:
    """`text`, if it is a regular expression of the kind that names of modules take.

    One that repeats groups, or repeats often, could take forever on a name that does not match.
    """
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise UserError(f"{where}: {text[:60]!r} is no regular expression") from None
    if len(text) > 2000 or ")*" in text or ")+" in text or len(re.findall(r"[*+{]", text)) > 4:
        raise UserError(f"{where}: {text[:60]!r} is too long or repeats too much; list the modules")
    return text


def _first_match(patterns: dict, module: str, otherwise):
    return next((v for k, v in patterns.items() if re.match(rf"(.*\.)?({k})$", module)), otherwise)


def _named(names: tuple[str, ...] | str, module: str) -> bool:
    """Whether a regular expression matches the module, or a list has an end of its name."""
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def in_order(found: set[str], known: tuple[str, ...]) -> list[str]:
    """The modules found: known ones in our order, then the others."""
    first = [target for target in known if target in found]
    return [*first, *sorted(found - set(first))]


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
