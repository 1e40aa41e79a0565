"""Named model descriptions: the paper's, one of small published parts, and a tiny one for tests.

Whisper-base and SmolLM2-135M-Instruct are small enough to train on a laptop; recordings are not padded there,
and eight encoder frames are averaged to a token of 160 ms.
"""

from dataclasses import replace

from mindspore_osum.models.aligner.config import AlignerConfig
from mindspore_osum.models.llama.config import DECODERS, DecoderConfig
from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig

PRESETS = {
    "yi_6b_aligner": LinearAlignerConfig(),
    "smollm2_aligner": LinearAlignerConfig(
        encoder=ENCODERS["base"],
        adapter=AlignerConfig(frames_per_token=8),
        decoder=DECODERS["smollm2-135m"],
        prompts="chatml",
    ),
    "tiny_aligner": LinearAlignerConfig(
        encoder=EncoderConfig(d_model=32, n_layers=1, n_heads=2, d_ff=64),
        adapter=AlignerConfig(frames_per_token=4),
        decoder=replace(
            DecoderConfig(qkv_bias=False, o_bias=False),
            vocab_size=2048,
            d_model=48,
            n_layers=2,
            n_heads=4,
            n_kv_heads=2,
            head_dim=12,
            d_ff=96,
            max_positions=1024,
            eos_id=4,
        ),
    ),
}
