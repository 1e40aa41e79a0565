"""What the references in PyTorch of systems with encoder, adapter and decoder share: a checkpoint's parts as
modules, and their outputs stage by stage.

It shares no code with our cells and key tables: it imports only configurations of this package.

Legend: B rows, T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width,
V vocabulary.
"""

import re
from typing import Any

import numpy as np
import torch
from torch import nn

from mindspore_osum.models.llama import reference as llama
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.models.whisper.reference import POSITIONS, Encoder, name_of

# substrings of keys of PEFT and of Hugging Face's language models -> substring in the module
DECODER = (
    (r"^(model\.(embed_tokens|layers|norm)|lm_head)\.", r"decoder.\1."),
    (r"\.base_layer\.", "."),
    (r"\.lora_([AB])\.default\.", r".lora_\1."),
)
_EMBEDDING = "decoder.model.embed_tokens.weight"


def renamed(key: str, patterns, of_encoder=name_of) -> str:
    """A checkpoint's key after these replacements.

    Parameters
    ----------
    of_encoder : the encoder's own name of what follows "encoder."; by default that of transformers' Whisper.
    """
    for pattern, replacement in patterns:
        key = re.sub(pattern, replacement, key)
    part, _, tail = key.partition(".")
    return f"encoder.{of_encoder(tail)}" if part == "encoder" else key


class Checkpoint:
    """Tensors of a checkpoint by the names of modules; a system adds its adapter.

    Parameters
    ----------
    weights : the open checkpoint (`weights_io.Weights`).
    """

    patterns: tuple = ()
    """Substrings of its keys -> substring in the module, for `renamed`."""

    def __init__(self, weights):
        self.weights, self.keys = weights, {self.name(key): key for key in weights.infos}

    def name(self, key: str) -> str:
        """The module's name of a key."""
        return renamed(key, self.patterns)

    def adapted(self, cfg, h_BUD):
        """(B, U, D) encoder frames -> (B, Z, D) speech tokens."""
        raise NotImplementedError

    def marks(self) -> tuple:
        """The embeddings (1, 1, D) before and after speech, () for none."""
        return ()

    def has(self, prefix: str) -> bool:
        """Whether it has tensors of these names."""
        return any(name.startswith(prefix) for name in self.keys)

    def tensor(self, name: str):
        """As float32."""
        return torch.from_numpy(np.array(self.weights.read(self.keys[name]).astype(np.float32)))

    def exact(self, name: str, width: int):
        """A positional table, if there is one in float32 (16 bits would have rounded it), else None."""
        if name not in self.keys or self.weights.infos[self.keys[name]].dtype != "F32":
            return None
        return self.tensor(name).reshape(-1, width)

    def load(self, module: nn.Module, prefix: str, layers: int | None = None, **more) -> nn.Module:
        """Load all tensors whose names begin with `prefix` into `module`, except layers beyond `layers`."""
        state = dict(more)
        for name in self.keys:
            tail, number = name.removeprefix(prefix), re.search(r"(?:^|\.)layers\.(\d+)\.", name)
            beyond = layers is not None and number is not None and int(number[1]) >= layers
            if tail != name and tail not in state and not beyond and not tail.endswith(("inv_freq", ".pe")):
                state[tail] = self.tensor(name)
        module.load_state_dict(state)
        return module.eval()

    def encoded(self, cfg, layers: int | None, mel_BTF):
        """(B, T, F) features -> (B, U, D), by a Whisper's encoder with the checkpoint's positions, else those
        of transformers."""
        table = self.exact(f"encoder.{POSITIONS}", cfg.encoder.d_model)
        module = Encoder(cfg.encoder, *(() if table is None else (len(table),)))
        own = module.embed_positions.weight.data if table is None else table
        return self.load(module, "encoder.", layers, **{POSITIONS: own})(mel_BTF)

    def decoder(self, cfg, description: dict | None, layers: int | None) -> nn.Module:
        """The decoder, built from the checkpoint's own description if it has one; with its LoRA, if any."""
        model = llama.described(description, layers) if description else llama.language_model(cfg.decoder)
        if low := [name for name in self.keys if name.endswith(".lora_A.weight")]:
            rank = self.weights.infos[self.keys[low[0]]].shape[0]
            targets = tuple({name.split(".")[-3] for name in low})
            # a folder with merged LoRA keeps alpha, but its rank is 0
            llama.add_lora(model, LoraConfig(rank, cfg.lora.alpha, targets=targets))
        tied = {"lm_head.weight": self.tensor(_EMBEDDING)} if model.config.tie_word_embeddings else {}
        return self.load(model, "decoder.", layers, **tied)


@torch.no_grad()
def stages(
    checkpoint: Checkpoint,
    cfg: Any,
    description: dict | None,
    inputs: dict,
    part: str,
    layers: int | None = None,
) -> dict:
    """Outputs of a checkpoint, float32 arrays by name: `encoder` (U, D), `speech` (Z, D), `logits` (L, V), as
    far as it has them.

    Parameters
    ----------
    cfg : of our folder made from it, with at most `layers` layers in encoder and decoder.
    description : the config.json of a Hugging Face decoder.
    inputs : mel_TF and ids_L; the text stands around the speech.
    part : part of the checkpoint to use: "model", or only its "encoder" or "decoder".
    """
    out, z_BZD = {}, None
    mel_BTF, ids_BL = (torch.from_numpy(inputs[name])[None] for name in ("mel_TF", "ids_L"))
    if part != "decoder" and checkpoint.has("encoder."):
        out["encoder"] = checkpoint.encoded(cfg, layers, mel_BTF)
        if part == "model" and checkpoint.has("adapter."):
            out["speech"] = z_BZD = checkpoint.adapted(cfg, out["encoder"])
    if part != "encoder" and _EMBEDDING in checkpoint.keys:
        model = checkpoint.decoder(cfg, description, layers)
        x_BLD = model.get_input_embeddings()(ids_BL)
        if z_BZD is not None:
            begin, end = [[mark] for mark in checkpoint.marks()] or ([], [])
            half = x_BLD.shape[1] // 2
            x_BLD = torch.cat([x_BLD[:, :half], *begin, z_BZD, *end, x_BLD[:, half:]], dim=1)
        out["logits"] = model(inputs_embeds=x_BLD).logits
    return {name: value[0].numpy() for name, value in out.items()}
