"""Checkpoints the conversion tests make themselves, with names spelled out as PyTorch code has them."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch to make checkpoints")

# a published model of this size needs these told; every width differs from the others
OVERRIDES = {
    "encoder": {"n_heads": 3},
    "adapter": {"n_heads": 2},
    "decoder": {"n_heads": 6, "eos_id": 4, "rope_theta": 10000.0},
    "lora": {"alpha": 5.0},
}
D, D_FF, MELS, LLM, LLM_FF, Q, KV, VOCAB, RANK, SPEECH = 36, 52, 80, 40, 56, 48, 16, 61, 3, 7


def published_shapes(layers: int = 2, lora: bool = True) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a small published OSUM-Pangu checkpoint, without buffers and duplicates."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, *rest: int, bias: bool = True):
        shapes[f"{name}.weight"] = (out, *rest)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def transformer(prefix: str, ff: int, key_bias: bool):
        for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
            linear(f"{prefix}.self_attn.{name}", D, D, bias=key_bias or name != "linear_k")
        linear(f"{prefix}.feed_forward.w_1", ff, D)
        linear(f"{prefix}.feed_forward.w_2", D, ff)
        linear(f"{prefix}.norm1", D)
        linear(f"{prefix}.norm2", D)

    linear("encoder.embed.conv.0", D, MELS, 3)
    linear("encoder.embed.conv.2", D, D, 3)
    for i in range(layers):
        transformer(f"encoder.encoders.{i}", D_FF, key_bias=False)
    linear("encoder.after_norm", D)
    linear("ln_speech", D)
    for i in (1, 4, 7):
        linear(f"down_sample_2.conv.{i}", D, D, 3)
    linear("speech_transformer.embed.out.0", D, D)
    linear("speech_transformer.embed.out.1", D)
    transformer("speech_transformer.encoders.0", 44, key_bias=True)
    linear("speech_transformer.after_norm", D)
    linear("speech_llama_proj", LLM, D)
    linear("speech_token_emded", SPEECH + 2, LLM, bias=False)
    linear("speech_head", SPEECH, LLM)
    llm = "llama_model.base_model.model" if lora else "llama_model"
    linear(f"{llm}.model.embed_tokens", VOCAB, LLM, bias=False)
    base = ".base_layer" if lora else ""
    for i in range(layers):
        layer = f"{llm}.model.layers.{i}"
        for name, out, into, bias in (
            ("self_attn.q_proj", Q, LLM, True),
            ("self_attn.k_proj", KV, LLM, True),
            ("self_attn.v_proj", KV, LLM, True),
            ("self_attn.o_proj", LLM, Q, True),
            ("mlp.gate_proj", LLM_FF, LLM, False),
            ("mlp.down_proj", LLM, LLM_FF, False),
        ):
            linear(f"{layer}.{name}{base}", out, into, bias=bias)
            if lora:
                linear(f"{layer}.{name}.lora_A.default", RANK, into, bias=False)
                linear(f"{layer}.{name}.lora_B.default", out, RANK, bias=False)
        linear(f"{layer}.mlp.up_proj", LLM_FF, LLM, bias=False)
        linear(f"{layer}.input_layernorm", LLM, bias=False)
        linear(f"{layer}.post_attention_layernorm", LLM, bias=False)
    linear(f"{llm}.model.norm", LLM, bias=False)
    linear(f"{llm}.lm_head", VOCAB, LLM, bias=False)
    return shapes


def published_state(dtype=torch.float32, lora: bool = True, seed: int = 0) -> dict:
    """A published state_dict with random values and its aliases `embed_tokens` and `lm_head`."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(shape, generator=generator).to(dtype) * 0.1
        for name, shape in published_shapes(lora=lora).items()
    }
    llm = "llama_model.base_model.model." if lora else "llama_model."
    state["embed_tokens.weight"] = state[f"{llm}model.embed_tokens.weight"]
    state["lm_head.weight"] = state[f"{llm}lm_head.weight"]
    return state


def save(state, path: Path) -> Path:
    """torch.save, returning the path."""
    torch.save(state, path)
    return path


def bits(tensor) -> np.ndarray:
    """A tensor's bytes, for comparisons that no rounding can pass."""
    tensor = tensor.detach().contiguous()
    return (
        tensor.reshape(-1).view(torch.uint8).numpy()
        if tensor.ndim
        else tensor.reshape(1).view(torch.uint8).numpy()
    )


def same_states(a: dict, b: dict) -> None:
    """Assert that two state_dicts have the same keys, types, shapes and bytes."""
    assert set(a) == set(b), sorted(set(a) ^ set(b))[:5]
    for key in a:
        assert a[key].dtype == b[key].dtype and a[key].shape == b[key].shape, key
        assert np.array_equal(bits(a[key]), bits(b[key])), key


def rewrite_zip(source: Path, target: Path, change) -> Path:
    """Copy a `.pt` entry by entry, stored; ``change(name, data)`` returns the data, or None to drop."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = change(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def pickle_of(*opcodes: bytes) -> bytes:
    """A protocol 2 pickle from opcodes."""
    return b"\x80\x02" + b"".join(opcodes) + b"."


def text(value: str) -> bytes:
    """BINUNICODE."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def write_pt(path: Path, pickle: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A `.pt` made of this pickle and these storages."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path
