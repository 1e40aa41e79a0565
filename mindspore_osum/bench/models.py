"""The models that are measured, with random weights, and their copies for PyTorch.

Speed does not depend on the weights' values; both sides have the same, so that their results can be compared.
"""

from dataclasses import replace
from pathlib import Path

from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig
from mindspore_osum.systems.registry import DEFAULT, preset, system_of

ModelConfig = system_of(DEFAULT).Config
_NO_LORA = LoraConfig(rank=0)
_LLAMA = {"qkv_bias": False, "o_bias": False, "rope_theta": 1e4, "max_positions": 2048, "eos_id": 4}
_STUB_DECODER = DecoderConfig(2048, 32, 1, 2, 2, 16, 32, **_LLAMA)
_STUB = {
    "adapter": AdapterConfig(n_layers=1, n_heads=2, d_ff=32),
    "lora": _NO_LORA,
    "speech_token_num": 2,
    "prompts": "compact",
}

# Whisper-base (Radford et al. 2022, table 1) and, for quick runs, -tiny
ENCODER = ModelConfig(encoder=ENCODERS["base"], decoder=_STUB_DECODER, **_STUB)
ENCODER_QUICK = replace(ENCODER, encoder=ENCODERS["tiny"])

# Llama's shape: 12 layers of 7.1 M parameters, embedding and head of 3.1 M
STUB_ENCODER = EncoderConfig(d_model=32, n_layers=1, n_heads=2, d_ff=32)
DECODER_90M = ModelConfig(
    encoder=STUB_ENCODER, decoder=DecoderConfig(4096, 768, 12, 12, 12, 64, 2048, **_LLAMA), **_STUB
)
# the same depth with minimal layers: the cost of a step without reading weights
DECODER_HOLLOW = replace(DECODER_90M, decoder=DecoderConfig(64, 32, 12, 12, 12, 4, 32, **_LLAMA))
DECODER_QUICK = replace(DECODER_90M, decoder=DecoderConfig(2048, 128, 2, 4, 4, 32, 256, **_LLAMA))

# 110 M parameters in tensors of many sizes: what is converted and loaded
CONVERTED = replace(DECODER_90M, encoder=ENCODERS["base"])
# 670 M parameters, 2.7 GB: the time of loading apart from building the cells
LARGE = replace(CONVERTED, decoder=DecoderConfig(8192, 2048, 12, 16, 16, 128, 5504, **_LLAMA))

_LORA_8 = LoraConfig(rank=8, alpha=16.0, dropout=0.0)
TRAIN = {
    "tiny": replace(preset("tiny"), lora=_LORA_8),
    "30m": ModelConfig(
        encoder=ENCODERS["tiny"],
        adapter=AdapterConfig(n_layers=2, n_heads=6, d_ff=1536),
        decoder=DecoderConfig(4096, 384, 8, 6, 6, 64, 1024, **_LLAMA),
        lora=_LORA_8,
        speech_token_num=2,
        prompts="compact",
    ),
    # SmolLM2-135M with the LoRA of configs/real/aligner.yaml; before it almost nothing
    "smollm2": ModelConfig(
        encoder=STUB_ENCODER,
        decoder=DecoderConfig(49152, 576, 30, 9, 3, 64, 1536, **_LLAMA, tie_embeddings=True),
        **_STUB | {"lora": LoraConfig(rank=16, alpha=32.0, dropout=0.0)},
    ),
}


def build(cfg: ModelConfig):
    """A model on CPU with random weights, in evaluation mode."""
    use_cpu()
    system = system_of(cfg.model_type)
    model = system.build(cfg)
    system.init_weights(model, 0)
    model.set_train(False)
    return model


def use_cpu() -> None:
    """As the engine sets the device up."""
    import mindspore as ms

    from mindspore_osum.allocator import keep_freed_memory

    keep_freed_memory()
    ms.set_context(mode=ms.GRAPH_MODE)
    if ms.get_context("device_target") != "CPU":
        ms.set_device("CPU")


def for_torch(model, form: str, folder: Path) -> str:
    """The model's weights as a Hugging Face folder ("hf_decoder", "hf_whisper") below `folder`; its path."""
    from ckpt_convert.convert import convert
    from mindspore_osum.folder import save_folder

    ours, theirs = folder / "ours", folder / form
    save_folder(ours, model, BUNDLED / TOKENIZER)
    convert(ours, theirs, form=form)
    return str(theirs)
