"""Named model descriptions.

Sizes of openPangu-Embedded-7B-V1.1 and Qwen2-7B are those of their config.json; LoRA is that of the released
configurations of OSUM-Pangu and OSUM. `tiny` is the model trained in this repository. A kind of adapter can
add presets that differ only in the adapter.
"""

from dataclasses import replace

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds, module_of
from mindspore_osum.models.llama.config import DECODERS, DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig

PRESETS = {
    "osum_pangu_7b": ModelConfig(),
    "osum_qwen2_7b": ModelConfig(
        decoder=DECODERS["qwen2-7b"], lora=LoraConfig(rank=8, alpha=32.0, dropout=0.1), prompts="osum_qwen2"
    ),
    "tiny": ModelConfig(
        encoder=EncoderConfig(d_model=144, n_layers=4, n_heads=2, d_ff=432),
        adapter=AdapterConfig(n_layers=2, n_heads=2, d_ff=288),
        decoder=DecoderConfig(
            vocab_size=2048,
            d_model=192,
            n_layers=3,
            n_heads=4,
            n_kv_heads=2,
            head_dim=48,
            d_ff=512,
            max_positions=1024,
            eos_id=4,
        ),
        lora=LoraConfig(rank=0),
        speech_token_num=2,
        prompts="compact",
    ),
}
PRESETS["osum_qwen2_tiny"] = replace(  # with a tokenizer of 256 bytes, then <|endoftext|>
    PRESETS["tiny"],
    decoder=replace(
        PRESETS["tiny"].decoder,
        vocab_size=320,
        rope_theta=1e6,
        norm_eps=1e-6,
        o_bias=False,
        bos_id=256,
        eos_id=256,
    ),
    lora=PRESETS["osum_qwen2_7b"].lora,
    prompts="osum_qwen2",
)
for _kind in kinds():
    for _name, _base in module_of(_kind, "config").PRESETS.items():
        PRESETS[_name] = replace(PRESETS[_base], adapter=replace(PRESETS[_base].adapter, kind=_kind))
