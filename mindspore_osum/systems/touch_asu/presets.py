"""Named model descriptions: WEST's recipes with a Whisper and a FireRed encoder, small models for tests."""

from dataclasses import replace

from mindspore_osum.models.firered.config import ENCODERS, MAX_FRAMES, FireRedConfig
from mindspore_osum.models.llama.config import DECODERS, LoraConfig
from mindspore_osum.models.projector.config import ProjectorConfig
from mindspore_osum.models.whisper.config import ENCODERS as WHISPERS
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.touch_asu.config import FRAMES, TouchAsuConfig, instruct

_RECIPE = TouchAsuConfig()
_FIRERED = replace(
    _RECIPE,
    encoder=ENCODERS["firered-l"],
    positions=MAX_FRAMES,
    adapter=ProjectorConfig(stride=2),
    wenet="firered",
)
_TINY = TouchAsuConfig(
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
)
PRESETS = {
    "touch_asu_qwen2_1.5b": _RECIPE,
    "touch_asu_qwen2_7b": replace(
        _RECIPE, decoder=instruct("qwen2-7b"), lora=LoraConfig(rank=0), llm="Qwen/Qwen2-7B-Instruct"
    ),
    "touch_asu_qwen3_1.7b": replace(
        _RECIPE,
        decoder=DECODERS["qwen3-1.7b"],
        lora=replace(_RECIPE.lora, rank=64),
        llm="Qwen/Qwen3-1.7B",
    ),
    "touch_asu_qwen2_7b_firered": replace(
        _FIRERED, decoder=instruct("qwen2-7b"), lora=LoraConfig(rank=0), llm="Qwen/Qwen2-7B-Instruct"
    ),
    "touch_asu_qwen3_1.7b_firered": replace(
        _FIRERED,
        decoder=DECODERS["qwen3-1.7b"],
        lora=replace(_RECIPE.lora, rank=64),
        llm="Qwen/Qwen3-1.7B",
    ),
    # small published parts, as linear_aligner's smollm2_aligner: recordings are not padded, a token is 160 ms
    "touch_asu_smollm2": replace(
        _RECIPE,
        encoder=WHISPERS["base"],
        adapter=ProjectorConfig(stride=8),
        decoder=DECODERS["smollm2-135m"],
        lora=replace(_RECIPE.lora, rank=16, alpha=32.0, dropout=0.0),
        eos_ids=(2, 0),
        leftover=FRAMES,
        llm="HuggingFaceTB/SmolLM2-135M-Instruct",
        wenet="whisper-base",
    ),
    "touch_asu_tiny": _TINY,
    "touch_asu_firered_tiny": replace(
        _TINY,
        encoder=FireRedConfig(d_model=32, n_layers=2, n_heads=2, d_ff=64, conv_channels=4, kernel=7),
        positions=300,
        adapter=ProjectorConfig(stride=2, d_hidden=48),
    ),
}
