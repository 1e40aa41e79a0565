"""The encoder in PyTorch, by transformers' class, as a reference for our cells.

It shares no code with the cells.

Legend: B batch, T mel frames, U encoder frames, F mel bins, D width.
"""

import re

from torch.nn import functional
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mindspore_osum.models.whisper.config import EncoderConfig

# pieces of a key of ours, of the published checkpoints or of openai-whisper -> transformers' piece
_TO_TRANSFORMERS = (
    (r"^embed\.conv\.0\.", "conv1."),
    (r"^embed\.conv\.2\.", "conv2."),
    (r"^(encoders|blocks)\.", "layers."),
    (r"^(after_norm|ln_post)\.", "layer_norm."),
    (r"(norm1|attn_ln)\.", "self_attn_layer_norm."),
    (r"(norm2|mlp_ln)\.", "final_layer_norm."),
    (r"self_attn\.linear_out", "self_attn.out_proj"),
    (r"self_attn\.linear_([qkv])", r"self_attn.\1_proj"),
    (r"\.attn\.out\.", ".self_attn.out_proj."),
    (r"\.attn\.([qkv])(uery|ey|alue)\.", r".self_attn.\1_proj."),
    (r"feed_forward\.w_([12])", r"fc\1"),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
)
POSITIONS = "embed_positions.weight"  # of the module; other checkpoints name it differently or lack it
_IS_POSITIONS = re.compile(r"pos_enc|position")


class Encoder(WhisperEncoder):
    """transformers' encoder on recordings of any length; its own forward demands 30 s.

    Parameters
    ----------
    positions : rows of its positional table, which transformers computes.
    """

    def __init__(self, cfg: EncoderConfig, positions: int = 1500):
        super().__init__(
            WhisperConfig(
                num_mel_bins=cfg.n_mels,
                d_model=cfg.d_model,
                encoder_layers=cfg.n_layers,
                encoder_attention_heads=cfg.n_heads,
                encoder_ffn_dim=cfg.d_ff,
                max_source_positions=positions,
                vocab_size=8,
                pad_token_id=0,
            )
        )

    def forward(self, mel_BTF):
        """(B, T, F) log-mel of full rows -> (B, U, D)."""
        x_BDU = functional.gelu(self.conv1(mel_BTF.transpose(1, 2)))
        x_BUD = functional.gelu(self.conv2(x_BDU)).transpose(1, 2)
        x_BUD = x_BUD + self.embed_positions.weight[: x_BUD.shape[1]]
        for layer in self.layers:
            x_BUD = layer(x_BUD, None, layer_head_mask=None)[0]
        return self.layer_norm(x_BUD)


def name_of(key: str) -> str:
    """The module's name for a key of ours, of transformers, openai or a published checkpoint, all without the
    encoder's own prefix."""
    if _IS_POSITIONS.search(key):
        return POSITIONS
    for pattern, replacement in _TO_TRANSFORMERS:
        key = re.sub(pattern, replacement, key)
    return key
