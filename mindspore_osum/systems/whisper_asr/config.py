"""Config of a Whisper (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

import dataclasses
import re
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar

from mindspore_osum.errors import UserError
from mindspore_osum.models.buckets import SMALLEST_LENGTH, bucket
from mindspore_osum.models.whisper.config import STRIDE, EncoderConfig, TextDecoderConfig
from mindspore_osum.speech.config import FeatureConfig
from mindspore_osum.systems.whisper_asr.vocabulary import Vocabulary

WINDOW = 30.0  # seconds that Whisper reads at once
# Settings that the shapes of small weights allow, and with which a small file would take all memory or time.
# Published models have at most what the comments say.
MOST = {
    "encoder.n_mels": 256,  # 128
    "encoder.n_layers": 256,  # 32
    "encoder.n_heads": 32,  # 20; each has a table of all pairs of frames
    "encoder.norm_eps": 1,  # 1e-5
    "decoder.n_layers": 256,  # 32
    "decoder.n_heads": 32,  # 20
    "decoder.norm_eps": 1,
    "decoder.max_positions": 4096,  # 448
    "positions": 6000,  # 1500
}
WIDEST = 32  # inner width of a feed-forward, times d_model: 4


@dataclass(frozen=True)
class WhisperConfig:
    """Encoder and text decoder, and what an answer may have."""

    model_type: ClassVar[str] = "whisper_asr"
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(pad_to_seconds=WINDOW))
    decoder: TextDecoderConfig = field(default_factory=TextDecoderConfig)
    languages: int = 99
    positions: int = 1500  # encoder frames in its table of positions
    suppressed: tuple[int, ...] | None = None  # tokens that no answer has; None: the published list
    suppressed_first: tuple[int, ...] | None = None  # that none begins with; None: " " and the end
    latest_first_time: float = 1.0  # seconds: the latest first timestamp of an answer
    # (layer, head) pairs whose cross-attention follows the words; empty: all heads of the upper half
    alignment_heads: tuple[tuple[int, ...], ...] = ()
    # of a fine-tuned model: the last rows of its token embedding (tags.py)
    tags: tuple[str, ...] = ()
    dtype: str = "float32"  # of the weights and activations: float32, bfloat16 or float16

    def __post_init__(self):
        check_model(self)

    @property
    def vocabulary(self) -> Vocabulary:
        """Ids of the special tokens."""
        return Vocabulary(self.decoder.eos_id, self.languages)

    @property
    def tag_ids(self) -> dict[str, int]:
        """Tag -> token."""
        first = self.decoder.vocab_size - len(self.tags)
        return {tag: first + number for number, tag in enumerate(self.tags)}

    @property
    def features(self) -> FeatureConfig:
        """Settings of the log-mel front end."""
        return FeatureConfig(self.encoder.n_mels, self.encoder.pad_to_seconds)

    def tokens(self, frames):
        """Number of encoder frames for a number of mel frames (int or array)."""
        return self.encoder.frames(frames)

    @property
    def seconds_per_token(self) -> float:
        """Duration of an encoder frame."""
        return self.features.seconds(STRIDE)

    @property
    def most_frames(self) -> int:
        """Mel frames of the longest recording that the model takes at once."""
        return STRIDE * self.positions

    def static_length(self, longest: int) -> int:
        """The length of a graph for prompts or transcripts whose longest has so many positions: a short
        one, or one that holds half of all, which is the most. Each other length would have graphs, too."""
        length = bucket(longest, SMALLEST_LENGTH)
        half = bucket(self.decoder.max_positions // 2, SMALLEST_LENGTH)
        return length if length == SMALLEST_LENGTH else max(length, half)

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, as saved in config.json together with `model_type`."""
        return dataclasses.asdict(self)


def check_model(cfg: WhisperConfig) -> None:
    """Refuse sizes that cannot be built, naming the key."""

    def need(ok: bool, what: str):
        if not ok:
            raise UserError(f"model config: {what}")

    for name in ("encoder", "decoder"):
        part = getattr(cfg, name)
        for key, value in vars(part).items():
            if type(value) is int:
                need(0 < value < 2**31, f"{name}.{key} must be positive and below 2^31, not {value}")
        need(
            part.d_model % part.n_heads == 0,
            f"{name}.d_model {part.d_model} must be divisible by n_heads {part.n_heads}",
        )
        need(part.norm_eps >= 0, f"{name}.norm_eps must be 0 or more, not {part.norm_eps}")
        widest = WIDEST * part.d_model
        need(part.d_ff <= widest, f"{name}.d_ff must be at most {WIDEST} times d_model, not {part.d_ff}")
    need(
        cfg.encoder.d_model == cfg.decoder.d_model,
        f"encoder.d_model {cfg.encoder.d_model} and decoder.d_model {cfg.decoder.d_model} must be equal",
    )
    need(cfg.positions > 0, f"positions must be positive, not {cfg.positions}")
    for name, most in MOST.items():
        value = attrgetter(name)(cfg)
        need(value <= most, f"{name} must be at most {most:g}, not {value:g}")
    most = cfg.features.seconds(cfg.most_frames)
    need(
        0 <= cfg.encoder.pad_to_seconds <= most,
        f"encoder.pad_to_seconds must be 0 to {most:g}, not {cfg.encoder.pad_to_seconds}",
    )
    need(
        0 <= cfg.encoder.dropout < 1,
        f"encoder.dropout must be 0 or more and below 1, not {cfg.encoder.dropout}",
    )
    need(1 <= cfg.languages <= 100, f"languages must be 1 to 100, not {cfg.languages}")
    wrong = [tag for tag in cfg.tags if not re.fullmatch(r"<[^<>]{1,30}>", str(tag))]
    need(not wrong, f"tags: {wrong[:1]} is no name in angle brackets")
    need(len(set(cfg.tags)) == len(cfg.tags), "tags: one is there twice")
    need(
        not cfg.tags or cfg.vocabulary.multilingual,
        "tags: only a multilingual Whisper has tasks to choose from",
    )
    rows, last = cfg.decoder.vocab_size - len(cfg.tags), cfg.vocabulary.last_time
    need(
        last < rows,
        f"decoder.vocab_size {rows} (without tags) holds no special tokens of {cfg.languages} languages that "
        f"begin at decoder.eos_id {cfg.decoder.eos_id}: the last one is {last}",
    )
    for name in ("suppressed", "suppressed_first"):
        wrong = [i for i in getattr(cfg, name) or () if not 0 <= i < rows]
        need(not wrong, f"{name}: {wrong[:3]} are none of the {rows} tokens")
    need(0 <= cfg.latest_first_time <= WINDOW, f"latest_first_time must be 0 to {WINDOW:g} seconds")
    layers, heads = cfg.decoder.n_layers, cfg.decoder.n_heads
    wrong = [p for p in cfg.alignment_heads if len(p) != 2 or not (0 <= p[0] < layers and 0 <= p[1] < heads)]
    need(not wrong, f"alignment_heads: {wrong[:2]} are no layer and head of the decoder")
    need(
        cfg.dtype in ("float32", "bfloat16", "float16"),
        f"dtype must be float32, bfloat16 or float16, not {cfg.dtype!r}",
    )
