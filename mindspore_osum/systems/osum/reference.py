"""OSUM in PyTorch: the reference for verification, tests and the benchmark.

Its parts are classes of transformers, or written by hand in models/adapters/*/reference.py. It shares no code
with our cells and key tables: it imports only configurations of this package.

Legend: B rows, T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width,
V vocabulary.
"""

import re

import numpy as np
import torch
from torch import nn

from mindspore_osum.models.adapters.reference import adapter
from mindspore_osum.models.llama import reference as llama
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.models.whisper.reference import POSITIONS, Encoder, name_of
from mindspore_osum.systems.osum.config import ModelConfig

# substrings of checkpoint keys, ours or published, of a full model or a part -> substring in the module
_PUBLISHED = (
    (r"^module\.", ""),
    (r"^(model\.)?encoder\.", "encoder."),
    (r"^down_sample_2\.conv\.(\d+)\.", lambda match: f"adapter.conv.{int(match[1]) // 3}."),
    (r"^speech_transformer\.embed\.out\.", "adapter.transformer.embed."),
    (r"^speech_transformer\.", "adapter.transformer."),
    (r"^speech_llama_proj\.", "adapter.proj."),
    (r"^speech_token_emded\.", "speech_token_embed."),
    (r"^llama_model\.(base_model\.model\.)?", "decoder."),
    (r"^(model\.(embed_tokens|layers|norm)|lm_head)\.", r"decoder.\1."),
    (r"\.base_layer\.", "."),
    (r"\.lora_([AB])\.default\.", r".lora_\1."),
)
_ADAPTER_POSITIONS = "adapter.transformer.embed.pos_enc.pe"


def module_name(key: str) -> str:
    """The name in `Osum` of a key of a checkpoint, ours or published."""
    for pattern, replacement in _PUBLISHED:
        key = re.sub(pattern, replacement, key)
    part, _, tail = key.partition(".")
    return f"encoder.{name_of(tail)}" if part == "encoder" else key


class Osum(nn.Module):
    """Encoder, adapter and decoder over one hybrid sequence, in rows without padding."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.encoder = Encoder(cfg.encoder)
        self.adapter = adapter(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model)
        self.speech_token_embed = nn.Embedding(cfg.speech_token_num + 2, cfg.decoder.d_model)
        self.decoder = llama.add_lora(llama.language_model(cfg.decoder), cfg.lora)

    def encode_speech(self, mel_BTF):
        """(B, T, F) log-mel -> (B, Z, D) speech tokens."""
        return self.adapter(self.encoder(mel_BTF))

    def embed(self, token_ids_BL, speech_row_BL, z_BZD):
        """Input embeddings (B, L, D); rows: -1 text, 0 speech begin, 1 end, 2 + b*Z + z a token of row b."""
        table_RD = torch.cat([self.speech_token_embed.weight[-2:], z_BZD.flatten(0, 1)])
        text_BLD = self.decoder.get_input_embeddings()(token_ids_BL)
        return torch.where((speech_row_BL >= 0)[..., None], table_RD[speech_row_BL.clamp(min=0)], text_BLD)

    def hidden_states(self, x_BLD):
        """(B, L, D) after the decoder's last norm."""
        return self.decoder.model(inputs_embeds=x_BLD, use_cache=False).last_hidden_state

    def forward(self, mel_BTF, token_ids_BL, speech_row_BL):
        """Speech tokens (B, Z, D), input embeddings (B, L, D) and logits (B, L, V)."""
        z_BZD = self.encode_speech(mel_BTF)
        x_BLD = self.embed(token_ids_BL, speech_row_BL, z_BZD)
        return z_BZD, x_BLD, self.decoder.lm_head(self.hidden_states(x_BLD))


def from_folder(cfg: ModelConfig, tensors: dict) -> Osum:
    """A model with the tensors of one of our folders, by name."""
    model = Osum(cfg)
    state = {module_name(name): value for name, value in tensors.items()}
    state[f"encoder.{POSITIONS}"] = model.encoder.embed_positions.weight.data
    if cfg.decoder.tie_embeddings:
        state["decoder.lm_head.weight"] = state["decoder.model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


class _Checkpoint:
    """Tensors of a checkpoint by the names of `Osum`."""

    def __init__(self, weights):
        self.weights, self.keys = weights, {module_name(key): key for key in weights.infos}

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

    def encoder(self, cfg: ModelConfig, layers: int | None) -> nn.Module:
        """The encoder, with the checkpoint's positions, else those of transformers."""
        table = self.exact(f"encoder.{POSITIONS}", cfg.encoder.d_model)
        module = Encoder(cfg.encoder, *(() if table is None else (len(table),)))
        own = module.embed_positions.weight.data if table is None else table
        return self.load(module, "encoder.", layers, **{POSITIONS: own})

    def adapter(self, cfg: ModelConfig) -> nn.Module:
        """The adapter, with the checkpoint's positions, else those of Vaswani et al. 2017."""
        module = self.load(adapter(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model), "adapter.")
        table = self.exact(_ADAPTER_POSITIONS, cfg.encoder.d_model)
        if table is not None:
            module.transformer.positions_ZD = table
        return module

    def decoder(self, cfg: ModelConfig, description: dict | None, layers: int | None) -> nn.Module:
        """The decoder, built from the checkpoint's own description if it has one; with its LoRA, if any."""
        model = llama.described(description, layers) if description else llama.language_model(cfg.decoder)
        if low := [name for name in self.keys if name.endswith(".lora_A.weight")]:
            rank = self.weights.infos[self.keys[low[0]]].shape[0]
            targets = tuple({name.split(".")[-3] for name in low})
            # a folder with merged LoRA keeps alpha, but its rank is 0
            llama.add_lora(model, LoraConfig(rank, cfg.lora.alpha, targets=targets))
        tied = {}
        if model.config.tie_word_embeddings:
            tied = {"lm_head.weight": self.tensor("decoder.model.embed_tokens.weight")}
        return self.load(model, "decoder.", layers, **tied)


@torch.no_grad()
def stages(
    weights, cfg: ModelConfig, description: dict | None, inputs: dict, part: str, layers: int | None = None
) -> dict:
    """Outputs of a checkpoint, float32 arrays by name: `encoder` (U, D), `speech` (Z, D), `logits` (L, V), as
    far as it has them.

    Parameters
    ----------
    weights : the open checkpoint (`weights_io.Weights`), published, of transformers or openai.
    cfg : of our folder made from it, with at most `layers` layers in encoder and decoder.
    description : the config.json of a Hugging Face decoder.
    inputs : mel_TF and ids_L; the text stands around the speech.
    part : part of the checkpoint to use: "model", or only its "encoder" or "decoder".
    """
    checkpoint, out = _Checkpoint(weights), {}
    mel_BTF, ids_BL = (torch.from_numpy(inputs[name])[None] for name in ("mel_TF", "ids_L"))
    z_BZD = None
    if part != "decoder" and "encoder.conv1.weight" in checkpoint.keys:
        out["encoder"] = checkpoint.encoder(cfg, layers)(mel_BTF)
        if part == "model" and "adapter.proj.weight" in checkpoint.keys:
            out["speech"] = z_BZD = checkpoint.adapter(cfg)(out["encoder"])
    if part != "encoder" and "decoder.model.embed_tokens.weight" in checkpoint.keys:
        model = checkpoint.decoder(cfg, description, layers)
        x_BLD = model.get_input_embeddings()(ids_BL)
        if z_BZD is not None:
            begin, end = checkpoint.tensor("speech_token_embed.weight")[None, -2:].split(1, dim=1)
            half = x_BLD.shape[1] // 2
            x_BLD = torch.cat([x_BLD[:, :half], begin, z_BZD, end, x_BLD[:, half:]], dim=1)
        out["logits"] = model(inputs_embeds=x_BLD).logits
    return {name: value[0].numpy() for name, value in out.items()}
