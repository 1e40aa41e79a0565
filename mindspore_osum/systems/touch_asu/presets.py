"""Named model descriptions: WEST's recipe with a Whisper encoder, a larger LLM, a small model for tests."""

from dataclasses import replace

from mindspore_osum.models.llama.config import DECODERS, LoraConfig
from mindspore_osum.models.projector.config import ProjectorConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig, instruct

_RECIPE = TouchAsuConfig()
PRESETS = {
    "touch_asu_qwen2_1.5b": _RECIPE,
    "touch_asu_qwen2_7b": replace(
        _RECIPE, decoder=instruct("qwen2-7b"), lora=LoraConfig(rank=0), llm="Qwen/Qwen2-7B-Instruct"
    ),
    # WEST has it behind a FireRed encoder
    "touch_asu_qwen3_1.7b": replace(
        _RECIPE,
        decoder=DECODERS["qwen3-1.7b"],
        lora=replace(_RECIPE.lora, rank=64),
        llm="Qwen/Qwen3-1.7B",
    ),
    "touch_asu_tiny": TouchAsuConfig(
        encoder=EncoderConfig(d_model=32, n_layers=2, n_heads=2, d_ff=64),
        adapter=ProjectorConfig(d_hidden=48),
        decoder=replace(
            DECODERS["qwen2-0.5b"],
            vocab_size=640,
            d_model=32,
            n_layers=2,
            n_heads=4,
            n_kv_heads=2,
            head_dim=8,
            d_ff=64,
            max_positions=1024,
            bos_id=599,
            eos_id=599,
        ),
        lora=replace(_RECIPE.lora, rank=4),
        eos_ids=(599, 597),
        llm="llm",
        wenet="wenet",
    ),
}
