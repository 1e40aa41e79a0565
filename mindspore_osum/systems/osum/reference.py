"""OSUM in PyTorch: the reference for verification, tests and the benchmark.

Its parts are classes of transformers, or written by hand in models/adapters/*/reference.py. It shares no code
with our cells and key tables: it imports only configurations of this package.

Legend: B rows, T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width,
V vocabulary.
"""

import torch
from torch import nn

from mindspore_osum.models.adapters.reference import adapter
from mindspore_osum.models.llama import reference as llama
from mindspore_osum.models.whisper.reference import POSITIONS, Encoder
from mindspore_osum.systems import reference as shared
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.reference import DECODER, Checkpoint, renamed

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
    *DECODER,
)
_ADAPTER_POSITIONS = "adapter.transformer.embed.pos_enc.pe"


def module_name(key: str) -> str:
    """The name in `Osum` of a key of a checkpoint, ours or published."""
    return renamed(key, _PUBLISHED)


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


class _Published(Checkpoint):
    """A published checkpoint, or one of transformers or openai."""

    patterns = _PUBLISHED

    def adapted(self, cfg, h_BUD):
        module = self.load(adapter(cfg.adapter, cfg.encoder.d_model, cfg.decoder.d_model), "adapter.")
        table = self.exact(_ADAPTER_POSITIONS, cfg.encoder.d_model)  # else those of Vaswani et al. 2017
        if table is not None:
            module.transformer.positions_ZD = table
        return module(h_BUD)

    def marks(self) -> tuple:
        return self.tensor("speech_token_embed.weight")[None, -2:].split(1, dim=1)


def stages(weights, *args) -> dict:
    """As systems/reference.py `stages`, of an open checkpoint (`weights_io.Weights`)."""
    return shared.stages(_Published(weights), *args)
