"""An equal training step in PyTorch: parameters named as ours, transformers' Llama for the decoder.

Legend: B rows, T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

IGNORE = -100


class Attention(nn.Module):
    """Self-attention by sdpa."""

    def __init__(self, d: int, heads: int, key_bias: bool):
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_v, self.linear_out = (nn.Linear(d, d) for _ in range(3))
        self.linear_k = nn.Linear(d, d, bias=key_bias)

    def forward(self, x_BTD):
        b, t, d = x_BTD.shape
        q, k, v = (
            linear(x_BTD).view(b, t, self.heads, -1).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        return self.linear_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, d: int, d_ff: int, activation):
        super().__init__()
        self.w_1, self.w_2, self.activation = nn.Linear(d, d_ff), nn.Linear(d_ff, d), activation

    def forward(self, x):
        return self.w_2(self.activation(self.w_1(x)))


class Layer(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, d: int, heads: int, d_ff: int, key_bias: bool, activation, eps: float):
        super().__init__()
        self.self_attn, self.feed_forward = Attention(d, heads, key_bias), FeedForward(d, d_ff, activation)
        self.norm1, self.norm2 = nn.LayerNorm(d, eps), nn.LayerNorm(d, eps)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Encoder(nn.Module):
    """Whisper's encoder at any length."""

    def __init__(self, cfg: dict):
        super().__init__()
        d = cfg["d_model"]
        self.embed = nn.Module()
        self.embed.conv = nn.ModuleDict(
            {"0": nn.Conv1d(cfg["n_mels"], d, 3, padding=1), "2": nn.Conv1d(d, d, 3, 2, padding=1)}
        )
        self.encoders = nn.ModuleList(
            Layer(d, cfg["n_heads"], cfg["d_ff"], False, F.gelu, cfg["norm_eps"])
            for _ in range(cfg["n_layers"])
        )
        self.after_norm = nn.LayerNorm(d, cfg["norm_eps"])
        rate = torch.exp(-np.log(10000.0) / (d // 2 - 1) * torch.arange(d // 2))
        angle = torch.arange(3000.0)[:, None] * rate
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], 1), persistent=False)

    def forward(self, mel_BTF):
        x_BDU = F.gelu(self.embed.conv["2"](F.gelu(self.embed.conv["0"](mel_BTF.transpose(1, 2)))))
        x_BUD = x_BDU.transpose(1, 2) + self.positions[: x_BDU.shape[2]]
        for layer in self.encoders:
            x_BUD = layer(x_BUD)
        return self.after_norm(x_BUD)


class Adapter(nn.Module):
    """The released form: three causal convolutions, Transformer layers, a projection."""

    def __init__(self, d: int, d_out: int, cfg: dict):
        super().__init__()
        self.conv = nn.ModuleList(nn.Conv1d(d, d, 3, stride) for stride in (1, 2, 2))
        inner = self.transformer = nn.Module()
        inner.embed = nn.ModuleList([nn.Linear(d, d), nn.LayerNorm(d)])
        inner.encoders = nn.ModuleList(
            Layer(d, cfg["n_heads"], cfg["d_ff"], True, F.relu, cfg["norm_eps"])
            for _ in range(cfg["n_layers"])
        )
        inner.after_norm = nn.LayerNorm(d, cfg["norm_eps"])
        self.proj = nn.Linear(d, d_out)
        rate = torch.exp(torch.arange(0, d, 2) * -(np.log(10000.0) / d))
        angle = torch.arange(750.0)[:, None] * rate
        table = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, x_BUD):
        x_BDU = x_BUD.transpose(1, 2)
        for conv in self.conv:
            x_BDU = F.gelu(conv(F.pad(x_BDU, (2, 0))))
        linear, norm = self.transformer.embed
        x_BZD = norm(linear(x_BDU.transpose(1, 2)))
        x_BZD = x_BZD * x_BZD.shape[2] ** 0.5 + self.positions[: x_BZD.shape[1]]
        for layer in self.transformer.encoders:
            x_BZD = layer(x_BZD)
        return self.proj(self.transformer.after_norm(x_BZD))


class LoraLinear(nn.Linear):
    """W x + alpha/rank B A x."""

    def __init__(self, like: nn.Linear, cfg: dict):
        super().__init__(like.in_features, like.out_features, like.bias is not None)
        self.lora_A = nn.Linear(like.in_features, cfg["rank"], bias=False)
        self.lora_B = nn.Linear(cfg["rank"], like.out_features, bias=False)
        self.scale = cfg["alpha"] / cfg["rank"]

    def forward(self, x):
        return super().forward(x) + self.lora_B(self.lora_A(x)) * self.scale


class Model(nn.Module):
    """Encoder, adapter and decoder over one hybrid sequence."""

    def __init__(self, cfg: dict):
        super().__init__()
        decoder, d = cfg["decoder"], cfg["decoder"]["d_model"]
        self.encoder = Encoder(cfg["encoder"])
        self.adapter = Adapter(cfg["encoder"]["d_model"], d, cfg["adapter"])
        self.speech_token_embed = nn.Embedding(cfg["speech_token_num"] + 2, d)
        self.first_mark = cfg["speech_token_num"]
        self.decoder = _llama(decoder)
        for layer in self.decoder.model.layers:
            for block in (layer.self_attn, layer.mlp):
                for name in set(cfg["lora"]["targets"]) & {n for n, _ in block.named_children()}:
                    setattr(block, name, LoraLinear(getattr(block, name), cfg["lora"]))

    def forward(self, mel_BTF, token_ids_BL, speech_row_BL, labels_BL, room: int):
        """Mean cross-entropy over the labels, which are in the last `room` positions of each row."""
        z_BZD = self.adapter(self.encoder(mel_BTF))
        marks_2D = self.speech_token_embed.weight[self.first_mark :]
        table = torch.cat([marks_2D, z_BZD.flatten(0, 1)])
        text_BLD = self.decoder.model.embed_tokens(token_ids_BL)
        x_BLD = torch.where((speech_row_BL >= 0)[..., None], table[speech_row_BL.clamp(min=0)], text_BLD)
        hidden_BLD = self.decoder.model(inputs_embeds=x_BLD, use_cache=False).last_hidden_state
        scores_BMV = self.decoder.lm_head(hidden_BLD[:, -room - 1 : -1])
        return F.cross_entropy(scores_BMV.flatten(0, 1), labels_BL[:, -room:].flatten(), ignore_index=IGNORE)


def _llama(cfg: dict):
    from transformers import LlamaConfig, LlamaForCausalLM

    if cfg["qkv_bias"] != cfg["o_bias"] or cfg["qk_norm"]:
        raise ValueError("only decoders with all biases of attention or none are measured")
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=cfg["vocab_size"],
            hidden_size=cfg["d_model"],
            num_hidden_layers=cfg["n_layers"],
            intermediate_size=cfg["d_ff"],
            num_attention_heads=cfg["n_heads"],
            num_key_value_heads=cfg["n_kv_heads"],
            head_dim=cfg["head_dim"],
            rope_theta=cfg["rope_theta"],
            rms_norm_eps=cfg["norm_eps"],
            tie_word_embeddings=cfg["tie_embeddings"],
            max_position_embeddings=cfg["max_positions"],
            attention_bias=cfg["qkv_bias"],
            attn_implementation="sdpa",
            pad_token_id=None,
        )
    )


class Training:
    """Model, optimizer and batch of a step."""

    def __init__(self, folder: str, batch: str, room: int, optimizer: dict):
        from safetensors.torch import load_file

        self.model = Model(json.loads((Path(folder) / "config.json").read_text("utf-8"))).train()
        self.model.load_state_dict(load_file(f"{folder}/model.safetensors"))
        for name, param in self.model.named_parameters():
            param.requires_grad = "lora_" in name or name.startswith(("adapter.", "speech_token_embed."))
        self.clip = optimizer.pop("clip")
        self.weights = [param for param in self.model.parameters() if param.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, **optimizer)
        arrays = np.load(batch)
        names = ("mel_BTF", "token_ids_BL", "speech_row_BL", "labels_BL")
        columns = [torch.from_numpy(arrays[name]) for name in names]
        self.inputs = [c if c.is_floating_point() else c.long() for c in columns] + [room]

    def step(self) -> float:
        """Loss of one step."""
        self.optimizer.zero_grad()
        loss = self.model(*self.inputs)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        return float(loss)
