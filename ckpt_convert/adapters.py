"""PEFT adapters as one LoRA of our network, and as sums to merge into weights.

Our network has one rank and one scale for all modules, on all layers. Adapters of other ranks are padded with
zeros, which change nothing and never learn; those of another scale have B multiplied by the ratio; modules
that the settings leave out get zeros. What our network cannot hold beside its weights can still be merged:
DoRA (Liu et al. 2024) and LoRA on other modules than the projections (lm_head).
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ckpt_convert.merging import Update
from mindspore_osum.errors import UserError
from mindspore_osum.models.forms import PEFT_PREFIX, Form
from mindspore_osum.weights_io import TensorInfo, Weights, check_finite, decode, encode

_TENSOR = re.compile(
    r"(.+)\.lora_(?:(A|B)(?:\.[^.]+)??\.weight|(magnitude_vector)(?:\.[^.]+)??(?:\.weight)?)"
)
_MAX_KEY = 500  # characters; what is longer names no module
_LAYER = re.compile(r"(.*?)([^.]+\.\d+\..+)")  # of a name: what is before the list of layers, the rest


@dataclass
class _Module:
    """An adapted module: its name in the base model, and the keys of its tensors by kind."""

    theirs: str
    rank: int
    alpha: float
    keys: dict[str, str]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Adapters(Weights):
    """The tensors of a folder of adapters, of one rank and scale; keys are those of the file.

    Parameters
    ----------
    weights : the file.
    form : names the modules.
    settings : how each module is adapted (models/llama/peft.py `PeftSettings`).

    Attributes
    ----------
    file : the tensors as they are stored.
    stated : values of our configuration.
    copies : key of a weight of the base model in the file -> our name of that weight.
    beyond : our names of the weights whose adapters can only be merged -> the reason.

    Raises
    ------
    UserError : settings and tensors that contradict each other.
    """

    def __init__(self, weights: Weights, form: Form, settings: Any):
        self.file, self._form, self._settings = weights, form, settings
        self._modules: dict[str, _Module] = {}  # by our name of the weight
        self.copies: dict[str, str] = {}
        infos = self._read_modules()
        spelled = (_LAYER.fullmatch(module.theirs) for module in self._modules.values())
        self._before = Counter(match[1] for match in spelled if match).most_common(1)
        self.beyond = {n: why for n, module in self._modules.items() if (why := self._why_beyond(n, module))}
        held = {name: m for name, m in self._modules.items() if name not in self.beyond}
        self._rank, self._alpha = _common(held.values())
        targets = {name.split(".")[-2] for name in held}
        self.stated = settings.config(self._rank, self._alpha, targets) if held else {"lora": {"rank": 0}}
        self._changed: dict[str, tuple[str, _Module]] = {}  # key -> kind, module
        for module in held.values():
            for kind, key in module.keys.items():
                infos[key] = self._uniform_info(kind, key, module)
                self._changed[key] = kind, module
        self._zeros: dict[str, TensorInfo] = {}
        super().__init__(weights.where, infos)
        if all(form.ours(key) for key in infos):  # else the unknown names are reported first
            self._check_complete()

    def _read_modules(self) -> dict[str, TensorInfo]:
        """Fill `_modules` and `copies`; returns the other tensors, whose names say nothing."""
        others = {}
        for key, info in self.file.infos.items():
            match = _TENSOR.fullmatch(key) if len(key) <= _MAX_KEY else None
            name = self._form.base(f"{match[1]}.weight" if match else key)
            if match and name:
                theirs, kind = match[1].rpartition(PEFT_PREFIX)[2], match[2] or match[3]
                settings = self._settings
                if not settings.adapts(theirs):
                    raise UserError(
                        f"{settings.where}: {theirs} has adapters, but is no target module by these settings"
                    )
                fresh = _Module(theirs, settings.rank_of(theirs), settings.alpha_of(theirs), {})
                keys = self._modules.setdefault(name, fresh).keys
                if kind in keys:
                    raise UserError(f"{self.file.where}: {key!r} and {keys[kind]!r} are the same; remove one")
                keys[kind] = key
            elif name and not match:
                self.copies[key] = name
            else:
                others[key] = info
        for module in self._modules.values():
            self._check_shapes(module)
        return others

    def _check_shapes(self, module: _Module) -> None:
        for axis, kind in ((0, "A"), (1, "B")):
            shape = self.file.infos[module.keys[kind]].shape if kind in module.keys else None
            if shape is not None and (len(shape) != 2 or shape[axis] != module.rank):
                raise UserError(
                    f"{self.file.where}: {module.keys[kind]} has the shape {shape}, but by "
                    f"{self._settings.where} its rank is {module.rank}"
                )
        if ("magnitude_vector" in module.keys) != self._settings.dora:
            has = "has" if "magnitude_vector" in module.keys else "has no"
            dora = self._settings.dora
            raise UserError(
                f"{self._settings.where}: use_dora is {dora}, but {module.theirs} {has} magnitudes"
            )

    def _why_beyond(self, name: str, module: _Module) -> str:
        if "magnitude_vector" in module.keys:
            return "DoRA"
        return "" if self._form.ours(f"{module.theirs}.lora_A.weight") else "LoRA"

    def _check_complete(self) -> None:
        """Refuse a folder that lacks a target module in one of the layers it has."""
        if self._settings.targets is None:
            return
        layers = [int(m[1]) for n in self._modules if (m := re.search(r"\.(\d+)\.", n))]
        for i in range(max(layers, default=-1) + 1):
            for ours, _ in self._form.rows:
                name = ours.replace("{i}", str(i))
                if "{i}" not in ours or not name.endswith(".lora_A.weight"):
                    continue
                theirs = self._in_base(name.replace(".lora_A.weight", ".weight"))
                if self._settings.adapts(theirs) and not self._has(name):
                    raise UserError(
                        f"{self._settings.where}: {theirs} is a target module, but has no tensors in "
                        f"{self.file.where}; the folder is incomplete"
                    )

    def _has(self, name: str) -> bool:
        return name.replace(".lora_A.weight", ".weight") in self._modules

    def _in_base(self, name: str) -> str:
        """The base model's name of the module of our weight `name`, spelled as in the file."""
        if name in self._modules:
            return self._modules[name].theirs
        usual = self._form.theirs(name.replace(".weight", ".lora_A.weight")) or name
        usual = usual.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight")
        match = _LAYER.fullmatch(usual)
        return self._before[0][0] + match[2] if self._before and match else usual

    def _uniform_info(self, kind: str, key: str, module: _Module) -> TensorInfo:
        info = self.file.infos[key]
        if kind == "A":
            return TensorInfo(info.dtype, (self._rank, info.shape[1]))
        same = module.scale == self._alpha / self._rank
        return TensorInfo(info.dtype if same else "F32", (info.shape[0], self._rank))

    def raw(self, name: str) -> np.ndarray:
        if name in self._zeros:
            return np.zeros(self._zeros[name].nbytes, np.uint8)
        if name not in self._changed or self.infos[name] == self.file.infos[name]:
            return self.file.raw(name)
        kind, module = self._changed[name]
        stored = self.file.infos[name]
        values = decode(check_finite(self.file.raw(name), stored.dtype, self.place(name)), stored)
        out = np.zeros(self.infos[name].shape, np.float64)
        ratio = module.scale / (self._alpha / self._rank)
        if kind == "A":
            out[: module.rank] = values
        else:
            out[:, : module.rank] = values * np.float64(ratio)
        return encode(out, self.infos[name].dtype)

    def place(self, key: str) -> str:
        """File and tensor, for messages."""
        return f"{self.file.where}: tensor {key}"

    def merged_keys(self) -> dict[str, str]:
        """Keys of tensors that can only be merged -> our name of the weight they go into."""
        return {key: name for name in self.beyond for key in self._modules[name].keys.values()}

    def leave_out(self, names: list[str], shapes: dict[str, tuple]) -> list[str]:
        """Of our tensors `names`, those that are zeros because the settings leave their module out.

        They become tensors of this object under our names.
        """
        types = Counter(info.dtype for info in self.infos.values()).most_common(1)
        for name in (name for name in names if ".lora_" in name):
            weight = re.sub(r"\.lora_[AB]\.weight$", ".weight", name)
            if weight not in self._modules and not self._settings.adapts(self._in_base(weight)):
                self._zeros[name] = self.infos[name] = TensorInfo(types[0][0], shapes[name])
        return [name for name in names if name in self._zeros]

    def updates(self) -> dict[str, Update]:
        """Our name of a weight -> what is added to it; UserError if a module's tensors are incomplete."""
        out = {}
        for name, module in self._modules.items():
            missing = {"A", "B"} - set(module.keys)
            if missing:
                raise UserError(f"{self.file.where}: {module.theirs} has no lora_{min(missing)}")
            parts = [(self.file, module.keys[kind]) for kind in "AB"]
            magnitude = module.keys.get("magnitude_vector")
            out[name] = Update(*parts, module.scale, (self.file, magnitude) if magnitude else None)
        return out

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _common(modules) -> tuple[int, float]:
    """The largest rank, and the alpha that most modules of it have."""
    rank = max((module.rank for module in modules), default=0)
    alphas = Counter(module.alpha for module in modules if module.rank == rank)
    return rank, alphas.most_common(1)[0][0] if alphas else 0.0
