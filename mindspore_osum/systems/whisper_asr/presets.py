"""Named model descriptions of the published sizes (Radford et al. 2022, Table 1, and later ones)."""

from dataclasses import replace

from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig, TextDecoderConfig
from mindspore_osum.systems.whisper_asr.config import WINDOW, WhisperConfig
from mindspore_osum.systems.whisper_asr.vocabulary import PUBLISHED


def _preset(encoder: EncoderConfig, rows: int, layers: int = 0) -> WhisperConfig:
    """Of an encoder's size, with `rows` tokens; the decoder has as many layers if none are given."""
    eot, languages = PUBLISHED[rows]
    sizes = {name: getattr(encoder, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    decoder = TextDecoderConfig(rows, **sizes | ({"n_layers": layers} if layers else {}), eos_id=eot)
    return WhisperConfig(replace(encoder, pad_to_seconds=WINDOW), decoder, languages)


PRESETS = {f"whisper_{name}": _preset(ENCODERS[name], 51865) for name in ("base", "tiny", "small", "medium")}
PRESETS |= {
    f"whisper_{name}_en": _preset(ENCODERS[name], 51864) for name in ("tiny", "base", "small", "medium")
}
PRESETS |= {
    "whisper_large_v2": _preset(replace(ENCODERS["large-v3"], n_mels=80), 51865),  # and the first large
    "whisper_large_v3": _preset(ENCODERS["large-v3"], 51866),
    "whisper_large_v3_turbo": _preset(ENCODERS["large-v3"], 51866, layers=4),
}
