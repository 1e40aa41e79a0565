"""Whisper in PyTorch, by transformers' class, as a reference for our cells.

It shares no code with our cells and key tables: it imports only configurations of this package.

Legend: T mel frames, U encoder frames, L positions, D width, V vocabulary.
"""

import re

import numpy as np
import torch
from transformers import WhisperConfig as TheirConfig
from transformers import WhisperForConditionalGeneration

from mindspore_osum.models.whisper.reference import name_of
from mindspore_osum.systems.whisper_asr.config import WhisperConfig

# pieces of a key of the decoder, ours, of WeNet or of openai-whisper -> transformers' piece
_DECODER = (
    (r"^(embed\.0|token_embedding|embed_tokens)\.weight$", "embed_tokens.weight"),
    (r"^(embed\.1\.pe|positional_embedding|embed_positions\.weight)$", "embed_positions.weight"),
    (r"^(decoders|blocks)\.", "layers."),
    (r"^(after_norm|ln)\.", "layer_norm."),
    (r"\.(norm3|mlp_ln)\.", ".final_layer_norm."),
    (r"\.(norm2|cross_attn_ln)\.", ".encoder_attn_layer_norm."),
    (r"\.(src_attn|cross_attn)\.", ".encoder_attn."),
    (r"encoder_attn\.linear_out", "encoder_attn.out_proj"),
    (r"encoder_attn\.linear_([qkv])", r"encoder_attn.\1_proj"),
    (r"encoder_attn\.out\.", "encoder_attn.out_proj."),
    (r"encoder_attn\.([qkv])(uery|ey|alue)\.", r"encoder_attn.\1_proj."),
)


def module_name(key: str) -> str | None:
    """transformers' name of a key of a checkpoint, in any form; None for a copy of the token embedding."""
    part, _, tail = key.removeprefix("model.").partition(".")
    if part == "proj_out" or tail.startswith("output_layer."):
        return None
    for pattern, replacement in _DECODER if part == "decoder" else ():
        tail = re.sub(pattern, replacement, tail)
    return f"model.{part}.{tail if tail.startswith('embed_') and part == 'decoder' else name_of(tail)}"


def network(cfg: WhisperConfig) -> WhisperForConditionalGeneration:
    """transformers' network of these sizes."""
    enc, dec = cfg.encoder, cfg.decoder
    sizes = TheirConfig(
        vocab_size=dec.vocab_size,
        num_mel_bins=enc.n_mels,
        d_model=enc.d_model,
        encoder_layers=enc.n_layers,
        encoder_attention_heads=enc.n_heads,
        encoder_ffn_dim=enc.d_ff,
        decoder_layers=dec.n_layers,
        decoder_attention_heads=dec.n_heads,
        decoder_ffn_dim=dec.d_ff,
        max_source_positions=cfg.positions,
        max_target_positions=dec.max_positions,
        pad_token_id=dec.eos_id,
    )
    return WhisperForConditionalGeneration(sizes).eval()


@torch.no_grad()
def stages(
    weights, cfg: WhisperConfig, description: dict | None, inputs: dict, part: str, layers: int | None = None
) -> dict:
    """Outputs of a checkpoint, float32 arrays by name: `encoder` (U, D) and `logits` (L, V).

    Parameters
    ----------
    weights : the open checkpoint (`weights_io.Weights`) of transformers, openai or WeNet.
    cfg : of our folder made from it, with at most `layers` layers in encoder and decoder.
    inputs : mel_TF of a whole window, and ids_L.
    description, part : not used: the sizes are those of `cfg`, and a Whisper is always whole.
    """
    model, state = network(cfg), {}
    for key in weights.infos:
        name = module_name(key)
        number = name and re.search(r"\.layers\.(\d+)\.", name)
        if name and not (layers is not None and number and int(number[1]) >= layers):
            values = torch.from_numpy(np.array(weights.read(key).astype(np.float32)))
            state[name] = values[0] if "embed_positions" in name and values.ndim == 3 else values
    state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
    model.load_state_dict(state)
    mel_1FT, ids_1L = (torch.from_numpy(inputs[name])[None] for name in ("mel_TF", "ids_L"))
    told = model(mel_1FT.transpose(1, 2), decoder_input_ids=ids_1L)
    return {"encoder": told.encoder_last_hidden_state[0].numpy(), "logits": told.logits[0].numpy()}
