"""Operators and memory of a Whisper, for the planner; does not import MindSpore. `ops` as in models/cost.py.

A Whisper is whole on every device: it has one stage, and nothing of it is sharded.

Legend: B rows, T mel frames, U encoder frames, L positions, D width, S cache slots.
"""

from mindspore_osum.models.whisper.cost import TextDecoder, encoder
from mindspore_osum.models.whisper.cost import cache_bytes as cache_bytes_of
from mindspore_osum.models.whisper.cost import constant_bytes as constant_bytes_of
from mindspore_osum.systems.whisper_asr.config import WhisperConfig


def loss(ops, job, batch, stage):
    """Forward pass of a micro-batch: the loss; `batch.logits` are the tokens of a row."""
    model, rows, learns = job.model, batch.rows, "decoder" in job.learn
    decoder = TextDecoder(ops, model.decoder, model.encoder.frames(batch.frames), learns)
    kept = decoder.memory(encoder(ops, model.encoder, rows, batch.frames, "encoder" in job.learn), rows)
    count = rows * batch.logits
    scores = decoder.logits(decoder.layers(rows, batch.logits, kept), count)
    total = ops.token_losses(scores, count)
    if not job.smoothing:
        return total
    spread = ops.linear_map("difference", scores, scores.bytes)  # of every token from the sum of all
    return ops.same("add", total, ops.linear_map("mean", spread, total.bytes))


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


def loss_values(job, model: WhisperConfig) -> dict:
    """Values of `Job` (planning/job.py) for the loss of a training job."""
    return {"smoothing": job.loss.smoothing > 0}


def layer_of(name: str, model: WhisperConfig) -> int:
    """The layer that decides a parameter's stage: there is one stage."""
    return 0


def layer_outputs(model: WhisperConfig, batch, stage) -> int:
    """Elements of the outputs of all layers."""
    frames = model.encoder.frames(batch.frames) * model.encoder.n_layers
    return batch.rows * (frames + batch.logits * model.decoder.n_layers) * model.decoder.d_model


def head_counts(model: WhisperConfig) -> list[int]:
    """Sizes that must be divisible by model_parallel, which can only be 1."""
    return [1]


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
    """Layers that a pipeline divides into stages: it cannot."""
    return 1


def longest(model: WhisperConfig) -> int:
    """Positions of the longest sequence."""
    return model.decoder.max_positions


def answer_tokens(model: WhisperConfig, asked: int) -> int:
    """Tokens of the longest answer: half of the positions at most."""
    return min(asked, model.decoder.max_positions // 2)
