"""Independent PyTorch references of every model, over weights in our names.

The encoder and the decoders are those of `transformers`, the adapter's Transformer is torch's own
`TransformerEncoderLayer`; only the names are translated. All are functions of a dictionary of tensors, so
that gradients come in our names too. Each takes one utterance without padding: that is what a padded batch
has to reproduce.

Legend: T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width.
"""

import importlib
import re

import numpy as np
import pytest

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig

torch = pytest.importorskip("torch", reason="needs torch, the reference: pip install -e .[dev]")
F = torch.nn.functional
Weights = dict[str, "torch.Tensor"]


def tensors(values: dict[str, np.ndarray], grad: bool = False) -> Weights:
    """Arrays by name -> tensors that share their memory."""
    return {name: torch.from_numpy(value).requires_grad_(grad) for name, value in values.items()}


def part(weights: Weights, prefix: str) -> Weights:
    """The entries below `prefix.`, without it."""
    return {
        name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(prefix + ".")
    }


# --- encoder -----------------------------------------------------------------------------------

_WHISPER = (
    (r"^embed\.conv\.0\.", "conv1."),
    (r"^embed\.conv\.2\.", "conv2."),
    (r"^encoders\.", "layers."),
    (r"^after_norm\.", "layer_norm."),
    (r"linear_([qkv])\.", r"\1_proj."),
    (r"linear_out\.", "out_proj."),
    (r"feed_forward\.w_1\.", "fc1."),
    (r"feed_forward\.w_2\.", "fc2."),
    (r"norm1\.", "self_attn_layer_norm."),
    (r"norm2\.", "final_layer_norm."),
)


def whisper_encoder(cfg: EncoderConfig, weights: Weights, mel_TF):
    """Hugging Face's Whisper encoder on T frames as they are, (U, D); its own forward would demand 30 s."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    class AnyLength(WhisperEncoder):
        def forward(self, mel_1FT):
            x_1UD = F.gelu(self.conv2(F.gelu(self.conv1(mel_1FT)))).transpose(1, 2)
            x_1UD = x_1UD + self.embed_positions.weight[: x_1UD.shape[1]]
            for layer in self.layers:
                x_1UD = layer(x_1UD, None, layer_head_mask=None)[0]
            return self.layer_norm(x_1UD)

    module = AnyLength(
        WhisperConfig(
            num_mel_bins=cfg.n_mels,
            d_model=cfg.d_model,
            encoder_layers=cfg.n_layers,
            encoder_ffn_dim=cfg.d_ff,
            encoder_attention_heads=cfg.n_heads,
            attn_implementation="eager",
        )
    ).eval()
    named = {}
    for name, value in weights.items():
        for pattern, new in _WHISPER:
            name = re.sub(pattern, new, name)
        named[name] = value
    return _call(module, named, ("embed_positions.weight",), mel_TF.T[None])[0]


def _call(module, weights: Weights, own: tuple[str, ...], *args, **kwargs):
    """module(*args) with `weights`, which must be all its parameters but those in `own`."""
    missing = {name for name, _ in module.named_parameters()} ^ (set(weights) | set(own))
    assert not missing, sorted(missing)
    return torch.func.functional_call(module, weights, args, kwargs)


# --- adapter -----------------------------------------------------------------------------------


def interleaved_positions(length: int, width: int):
    """Vaswani et al. 2017, section 3.5, in float64: sin at even, cos at odd columns."""
    table = torch.zeros(length, width, dtype=torch.float64)
    for column in range(0, width, 2):
        angle = torch.arange(length, dtype=torch.float64) / 10000.0 ** (column / width)
        table[:, column], table[:, column + 1] = angle.sin(), angle.cos()
    return table.float()


def adapter_transformer(cfg: AdapterConfig, weights: Weights, x_ZD):
    """Linear, LayerNorm, sqrt(D) and positions, pre-norm layers, LayerNorm, (Z, D)."""
    z, d = x_ZD.shape
    x = F.linear(x_ZD, weights["embed.0.weight"], weights["embed.0.bias"])
    x = F.layer_norm(x, (d,), weights["embed.1.weight"], weights["embed.1.bias"], 1e-5)
    x = x * d**0.5 + interleaved_positions(z, d)
    layer = torch.nn.TransformerEncoderLayer(
        d,
        cfg.n_heads,
        cfg.d_ff,
        dropout=0.0,
        activation="relu",
        layer_norm_eps=cfg.norm_eps,
        batch_first=True,
        norm_first=True,
    )
    for i in range(cfg.n_layers):
        w = part(weights, f"encoders.{i}")
        named = {f"norm{n}.{kind}": w[f"norm{n}.{kind}"] for n in (1, 2) for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            named[f"self_attn.in_proj_{kind}"] = torch.cat([w[f"self_attn.linear_{c}.{kind}"] for c in "qkv"])
            named[f"self_attn.out_proj.{kind}"] = w[f"self_attn.linear_out.{kind}"]
            named[f"linear1.{kind}"] = w[f"feed_forward.w_1.{kind}"]
            named[f"linear2.{kind}"] = w[f"feed_forward.w_2.{kind}"]
        x = _call(layer, named, (), x[None])[0]
    return F.layer_norm(x, (d,), weights["after_norm.weight"], weights["after_norm.bias"], cfg.norm_eps)


def adapter(cfg: AdapterConfig, weights: Weights, x_UD):
    """(U, D) encoder frames -> (Z, d_out) speech tokens; the convolutions of a kind are in its folder."""
    kind = importlib.import_module(f"tests.models.adapters.{cfg.kind}.reference")
    x_ZD = adapter_transformer(cfg, part(weights, "transformer"), kind.convolutions(weights, x_UD))
    return F.linear(x_ZD, weights["proj.weight"], weights["proj.bias"])


# --- decoder -----------------------------------------------------------------------------------


def merged(weights: Weights, lora: LoraConfig) -> Weights:
    """LoRA merged: W + alpha/r B A."""
    out = {name: value for name, value in weights.items() if "lora_" not in name}
    for name in [n for n in weights if n.endswith(".lora_A.weight")]:
        base = name.removesuffix(".lora_A.weight")
        low = weights[f"{base}.lora_B.weight"] @ weights[name]
        out[f"{base}.weight"] = weights[f"{base}.weight"] + lora.alpha / lora.rank * low
    return out


def hf_decoder(cfg: DecoderConfig):
    """Hugging Face's model of this kind: Qwen3, Qwen2 or Llama (openPangu is Llama with four biases)."""
    import transformers as hf

    kinds = {
        (True, True, False): (hf.LlamaForCausalLM, hf.LlamaConfig, {"attention_bias": True}),
        (False, False, False): (hf.LlamaForCausalLM, hf.LlamaConfig, {"attention_bias": False}),
        (True, False, False): (hf.Qwen2ForCausalLM, hf.Qwen2Config, {}),
        (False, False, True): (hf.Qwen3ForCausalLM, hf.Qwen3Config, {"attention_bias": False}),
    }
    model, config, extra = kinds[cfg.qkv_bias, cfg.o_bias, cfg.qk_norm]
    return model(
        config(
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
            attn_implementation="eager",
            use_cache=False,
            pad_token_id=None,
            bos_token_id=1,
            eos_token_id=2,
            **extra,
        )
    ).eval()


def decoder(cfg: DecoderConfig, lora: LoraConfig, weights: Weights, x_LD, first_position: int = 0):
    """Hidden states after the last norm (L, D), and logits (L, V)."""
    named = merged(weights, lora)
    tied = ("lm_head.weight",) if cfg.tie_embeddings else ()
    named |= {name: named["model.embed_tokens.weight"] for name in tied}
    module = hf_decoder(cfg)
    missing = {name for name, _ in module.named_parameters()} ^ (set(named) - set(tied))
    assert not missing, sorted(missing)
    positions_1L = torch.arange(len(x_LD))[None] + first_position
    out = torch.func.functional_call(
        module,
        named,
        (),
        {"inputs_embeds": x_LD[None], "position_ids": positions_1L, "output_hidden_states": True},
    )
    return out.hidden_states[-1][0], out.logits[0]


# --- composite ---------------------------------------------------------------------------------


def encode_speech(cfg: ModelConfig, weights: Weights, mel_TF):
    """(T, F) -> (Z, D) speech tokens."""
    x_UD = whisper_encoder(cfg.encoder, part(weights, "encoder"), mel_TF)
    return adapter(cfg.adapter, part(weights, "adapter"), x_UD)


def embed(cfg: ModelConfig, weights: Weights, ids: list[int], z_ZD):
    """Input embeddings (L, D) of hybrid ids: -2 speech begin, -1 a speech token, -3 speech end, else text."""
    marks = weights["speech_token_embed.weight"]
    special = {-2: marks[cfg.speech_token_num], -3: marks[cfg.speech_token_num + 1]}
    speech = iter(z_ZD)
    text = weights["decoder.model.embed_tokens.weight"]
    rows = [next(speech) if i == -1 else special[i] if i in special else text[i] for i in ids]
    assert next(speech, None) is None, "the sequence must use every speech token"
    return torch.stack(rows)


def logits(cfg: ModelConfig, weights: Weights, mel_TF, ids: list[int]):
    """Speech tokens (Z, D), input embeddings (L, D) and logits (L, V) of one utterance."""
    z_ZD = encode_speech(cfg, weights, mel_TF)
    x_LD = embed(cfg, weights, ids, z_ZD)
    return z_ZD, x_LD, decoder(cfg.decoder, cfg.lora, part(weights, "decoder"), x_LD)[1]


def loss(cfg: ModelConfig, weights: Weights, items):
    """Mean cross-entropy over all labels of the items (with .mel_TF, .ids, .labels), each computed alone."""
    total, count = 0.0, 0
    for item in items:
        scores_LV = logits(cfg, weights, torch.from_numpy(item.mel_TF), item.ids)[2]
        labels_L = torch.tensor(item.labels)
        total = total + F.cross_entropy(scores_LV[:-1], labels_L[1:], ignore_index=-100, reduction="sum")
        count += int((labels_L[1:] != -100).sum())
    return total / count
