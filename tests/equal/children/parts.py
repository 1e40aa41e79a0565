"""Small stock models with random weights, as their own libraries save them, in the current folder.

whisper/ and openai.pt (half precision), and the decoders of TASK.json: name -> [config class, changes].
"""

import json
import sys

import torch
import transformers

WHISPER = {
    "d_model": 36,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 52,
    "decoder_layers": 1,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 20,
    "vocab_size": 50,
    "pad_token_id": 0,
    "max_source_positions": 1500,
}
DECODER = {
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "rope_theta": 12345.0,
    "max_position_embeddings": 99,
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
}
# parts of a name in a Hugging Face folder -> in openai-whisper's file
OPENAI = {
    "embed_positions.weight": "positional_embedding",
    "layer_norm.": "ln_post.",
    "layers.": "blocks.",
    "self_attn_ln_post.": "attn_ln.",
    "final_ln_post.": "mlp_ln.",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}


def save(model, folder: str, dtype: str) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.to(getattr(torch, dtype)).save_pretrained(folder)


def openai_name(name: str) -> str:
    for theirs, ours in OPENAI.items():
        name = name.replace(theirs, ours)
    return f"encoder.{name}"


whisper = transformers.WhisperModel(transformers.WhisperConfig(**WHISPER))
save(whisper, "whisper", "float32")
state = {openai_name(name): value.half() for name, value in whisper.get_encoder().state_dict().items()}
state["decoder.token_embedding.weight"] = torch.ones(5, 36).half()
sizes = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 36, "n_audio_head": 3, "n_audio_layer": 2}
sizes |= {"n_vocab": 5, "n_text_ctx": 4, "n_text_state": 36, "n_text_head": 3, "n_text_layer": 1}
torch.save({"dims": sizes, "model_state_dict": state}, "openai.pt")
with open(sys.argv[1], encoding="utf-8") as file:
    decoders = json.load(file)
for folder, (kind, dtype, changes) in decoders.items():
    config = getattr(transformers, kind)(**(DECODER | changes))
    save(transformers.AutoModelForCausalLM.from_config(config), folder, dtype)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump({}, file)
