"""The decoder in PyTorch, by transformers' classes, as a reference for our cells.

It shares no code with the cells. Parameter names are ours, which are those of the Hugging Face checkpoints.
"""

import torch
import transformers
from torch import nn

from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig


def language_model(cfg: DecoderConfig):
    """Qwen3, Qwen2 or Llama with random weights; openPangu is a Llama with all biases of attention."""
    kinds = {
        (True, True, False): ("Llama", {"attention_bias": True}),
        (False, False, False): ("Llama", {"attention_bias": False}),
        (True, False, False): ("Qwen2", {}),
        (False, False, True): ("Qwen3", {"attention_bias": False}),
    }
    name, extra = kinds[cfg.qkv_bias, cfg.o_bias, cfg.qk_norm]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.d_model,
        num_hidden_layers=cfg.n_layers,
        intermediate_size=cfg.d_ff,
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.n_kv_heads,
        head_dim=cfg.head_dim,
        rope_theta=cfg.rope_theta,
        rms_norm_eps=cfg.norm_eps,
        tie_word_embeddings=cfg.tie_embeddings,
        max_position_embeddings=cfg.max_positions,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        **extra,
    )
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def described(values: dict, layers: int | None = None):
    """The model described by the config.json of a Hugging Face folder, or its first layers.

    openPangu is built as a Llama, which it is: no code from a checkpoint is run.
    """
    own = values["num_hidden_layers"]
    values = values | {"num_hidden_layers": own if layers is None else min(layers, own)}
    if values["model_type"] == "PanguEmbedded":
        values |= {"model_type": "llama", "attention_bias": values["bias"]}
        values.pop("auto_map", None)
    config = transformers.AutoConfig.for_model(**values)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


class LoraLinear(nn.Module):
    """W x + alpha/rank B (A x) with the parameters of a linear layer; no dropout."""

    def __init__(self, inner: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.weight, self.bias, self.scale = inner.weight, inner.bias, alpha / rank
        self.lora_A = nn.Linear(inner.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, inner.out_features, bias=False)

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias) + self.lora_B(self.lora_A(x)) * self.scale


def add_lora(model: nn.Module, lora: LoraConfig) -> nn.Module:
    """`model` with LoRA on every linear layer whose name is one of the targets."""
    if lora.rank:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if name in lora.targets and isinstance(child, nn.Linear):
                    setattr(parent, name, LoraLinear(child, lora.rank, lora.alpha))
    return model
