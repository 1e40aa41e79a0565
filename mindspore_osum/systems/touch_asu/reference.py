"""TouchASU in PyTorch: the reference of a verification.

It shares no code with our cells and key tables: it imports only configurations of this package.

Legend: B rows, U encoder frames, Z speech tokens, D width.
"""

import torch
from torch.nn import functional

from mindspore_osum.models.firered import reference as firered
from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.systems import reference as shared
from mindspore_osum.systems.reference import DECODER, Checkpoint, renamed
from mindspore_osum.systems.touch_asu.config import PLACEHOLDER, TouchAsuConfig

_PUBLISHED = (
    (r"^(model\.)?encoder\.", "encoder."),
    (r"^encoder\.(decoder|ctc)\.", r"unused.\1."),  # which older versions saved
    (r"^encoder\.encoder\.", "encoder."),
    (r"^projector\.", "adapter."),
    (r"^llm\.(base_model\.model\.)?", "decoder."),
    *DECODER,
)


class _Published(Checkpoint):
    """A checkpoint of WEST, or of a part of it."""

    patterns = _PUBLISHED

    def exact(self, name: str, width: int):
        """A positional table in any type: here it is a parameter, which keeps its rounding."""
        return self.tensor(name).reshape(-1, width) if name in self.keys else None

    def adapted(self, cfg: TouchAsuConfig, h_BUD):
        stride, (_, u, _) = cfg.adapter.stride, h_BUD.shape
        h_BDU = functional.pad(h_BUD.transpose(1, 2), (0, -u % stride))
        x_BZD = functional.conv1d(h_BDU, *self._affine("conv1d"), stride=stride).transpose(1, 2).relu()
        z_BZD = functional.linear(
            functional.linear(x_BZD, *self._affine("linear1")).relu(), *self._affine("linear2")
        )
        if u % stride and cfg.leftover == PLACEHOLDER:
            z_BZD[:, -1] = self.tensor("decoder.model.embed_tokens.weight")[0]
        return z_BZD

    def _affine(self, name: str):
        return self.tensor(f"adapter.{name}.weight"), self.tensor(f"adapter.{name}.bias")


class _FireRed(_Published):
    """The same with a FireRed encoder, whose names are WeNet's."""

    def name(self, key: str) -> str:
        return renamed(key, self.patterns, str)

    def encoded(self, cfg: TouchAsuConfig, layers: int | None, mel_BTF):
        names = [name for name in self.keys if name.startswith("encoder.")]
        own = {name.removeprefix("encoder."): self.tensor(name) for name in names}
        return torch.stack([firered.encode(cfg.encoder, own, mel_TF) for mel_TF in mel_BTF])


def stages(weights, cfg: TouchAsuConfig, *args) -> dict:
    """As systems/reference.py `stages`, of an open checkpoint (`weights_io.Weights`)."""
    kind = _FireRed if isinstance(cfg.encoder, FireRedConfig) else _Published
    return shared.stages(kind(weights), cfg, *args)
