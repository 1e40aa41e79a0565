"""Operators and memory of answers of a Whisper, for the planner; does not import MindSpore. `ops` as in
models/cost.py.

Legend: B rows, T mel frames, U encoder frames, L positions, D width, S cache slots.
"""

import re

from mindspore_osum.errors import UserError
from mindspore_osum.models.whisper.cost import TextDecoder, encoder
from mindspore_osum.models.whisper.cost import cache_bytes as cache_bytes_of
from mindspore_osum.models.whisper.cost import constant_bytes as constant_bytes_of
from mindspore_osum.systems.whisper_asr.config import WhisperConfig


def prefill(ops, model: WhisperConfig, batch, stage) -> None:
    """Frames of the recordings, their language, and the prompts, with the scores of their last position."""
    decoder, rows = TextDecoder(ops, model.decoder, model.positions), batch.rows
    kept = decoder.memory(encoder(ops, model.encoder, rows, batch.frames, False), rows)
    if model.vocabulary.multilingual:
        decoder.logits(decoder.layers(rows, 1, kept), rows)
    hidden = decoder.layers(rows, batch.length, kept)
    scores = decoder.logits(hidden, rows)
    decoder.logits(hidden, rows)  # whether nobody speaks
    ops.token_losses(scores, rows)


def step(ops, model: WhisperConfig, rows: int, slots: int) -> None:
    """Decode step: one new token per row, with a cache of `slots` slots."""
    decoder = TextDecoder(ops, model.decoder, model.positions)
    ops.token_losses(decoder.logits(decoder.layers(rows, 1, None, slots), rows), rows)


def extra_shapes(job) -> dict[str, tuple[int, ...]]:
    """Parameters of a job that are not the model's: none."""
    return {}


def ctc_head(job, model: WhisperConfig) -> dict:
    """Training is not planned."""
    raise UserError("whisper_asr: training a Whisper is not planned; give --model without --config")


def layer_of(name: str, model: WhisperConfig) -> int:
    """The decoder layer of a parameter; that of all others is the first."""
    number = re.match(r"decoder\.decoders\.(\d+)\.", name)
    return int(number[1]) if number else 0


def input_numbers(model: WhisperConfig, batch) -> int:
    """Number of values of a batch of prompts, 4 bytes each."""
    return batch.audio_rows * (batch.frames * model.encoder.n_mels + 1) + batch.rows * (batch.length + 4)


def state_bytes(model: WhisperConfig, rows: int, slots: int, width: int, fused: bool) -> dict[str, int]:
    """Part -> bytes kept between steps while `rows` are answered together."""
    return {
        "KV cache": cache_bytes_of(model.decoder, rows, slots, width, fused),
        "keys of frames": cache_bytes_of(model.decoder, rows, model.positions, width, fused),
        "penalties": rows * model.decoder.vocab_size * 4,  # float32
    }


def constant_bytes(model: WhisperConfig, fused: bool) -> int:
    """Bytes of the constants for answering."""
    return constant_bytes_of(model.decoder, fused)


def depth(model: WhisperConfig) -> int:
    """Layers of the decoder."""
    return model.decoder.n_layers


def longest(model: WhisperConfig) -> int:
    """Positions of the longest sequence."""
    return model.decoder.max_positions


def answer_tokens(model: WhisperConfig, asked: int) -> int:
    """Tokens of the longest answer: half of the positions at most."""
    return min(asked, model.decoder.max_positions // 2)
