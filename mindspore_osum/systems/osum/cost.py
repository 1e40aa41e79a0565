"""Operators and memory of OSUM, for the planner; does not import MindSpore. `ops` as in models/cost.py.

Legend: B rows, T mel frames, U encoder frames, Z speech tokens, L positions, D width.
"""

import re

from mindspore_osum.models.adapters.cost import adapter
from mindspore_osum.models.llama import cost as llama
from mindspore_osum.models.whisper.cost import encoder
from mindspore_osum.systems.osum.config import ModelConfig


def loss(ops, job, batch, stage):
    """Forward pass of a micro-batch on the devices of `stage`: the loss, or the input of the next stage."""
    losses, speech = [], None
    if batch.audio_rows and stage.first:
        frames, speech = _encode(ops, job.model, batch, job.learn)
        if batch.ctc_labels:
            at = speech if job.ctc_at == "adapter" else frames
            losses.append(_ctc(ops, at, job, batch))
    if not job.ctc_only:
        decoder, rows = _decoder(ops, job.model, job.learn), batch.rows * batch.logits
        hidden = _decode(decoder, job.model, batch, speech, stage, "adapter" in job.learn)
        losses.append(ops.token_losses(decoder.logits(hidden, rows), rows) if stage.last else hidden)
    return losses[0] if len(losses) == 1 else ops.same("add", *losses)


def prefill(ops, model: ModelConfig, batch, stage) -> None:
    """Prefill of a batch of prompts, with the scores of their last position."""
    speech = _encode(ops, model, batch)[1] if batch.audio_rows else None
    decoder = _decoder(ops, model)
    ops.token_losses(decoder.logits(_decode(decoder, model, batch, speech, stage), batch.rows), batch.rows)


def step(ops, model: ModelConfig, rows: int, slots: int) -> None:
    """Decode step: one new token per row, with a cache of `slots` slots."""
    decoder = _decoder(ops, model)
    ops.token_losses(decoder.logits(decoder.step(rows, slots), rows), rows)


def _encode(ops, model: ModelConfig, batch, learn: frozenset[str] = frozenset()):
    """Mel frames to encoder frames (B, U, D) and speech tokens (B, Z, decoder width)."""
    enc, rows, half = model.encoder, batch.audio_rows, model.encoder.frames(batch.frames)
    x = encoder(ops, enc, rows, batch.frames, "encoder" in learn)
    width = model.decoder.d_model
    return x, adapter(ops, x, model.adapter, enc.d_model, width, rows, half, "adapter" in learn)


def _decoder(ops, model: ModelConfig, learn: frozenset[str] = frozenset()) -> llama.Decoder:
    return llama.Decoder(ops, model.decoder, model.lora, "decoder" in learn, "lora" in learn)


def _decode(decoder: llama.Decoder, model: ModelConfig, batch, speech, stage, marks_learn: bool = False):
    """Embeddings and the stage's layers: hidden states (B, L, D), normalised in the last stage."""
    ops, positions = decoder.ops, batch.rows * batch.length
    if stage.first:
        x = _embed(ops, model, decoder.embed(positions), speech, marks_learn)
    else:
        x = ops.arriving(positions * model.decoder.d_model)
    x = decoder.layers(x, batch.rows, batch.length, len(stage.layers(model.decoder.n_layers)))
    return decoder.norm(x) if stage.last else x


def _embed(ops, model: ModelConfig, text, speech, learns: bool):
    """Lookup of token embeddings, and of rows of the speech table for speech positions."""
    if speech is None:
        return text
    marks = ops.rows_of(model.speech_token_num + 2, model.decoder.d_model, 2, learns)
    table = ops.concat(marks, speech)
    return ops.select(text, ops.linear_map("gather", table, text.bytes))


def _ctc(ops, x, job, batch):
    """The CTC head and its loss, on encoder frames or speech tokens."""
    model, frames = job.model, job.model.encoder.frames(batch.frames)
    d = model.encoder.d_model
    if job.ctc_at == "adapter":
        frames, d = model.adapter.tokens(frames), model.decoder.d_model
    sizes = (batch.audio_rows, frames, batch.ctc_labels)
    return ops.ctc(x, d, job.ctc_vocab, sizes, "encoder" in job.learn)


# memory, and sizes that are divided among devices


def extra_shapes(job) -> dict[str, tuple[int, ...]]:
    """Parameters of a job that are not the model's: the CTC head."""
    if not job.ctc_at:
        return {}
    width = (job.model.decoder if job.ctc_at == "adapter" else job.model.encoder).d_model
    return {"ctc.weight": (job.ctc_vocab + 1, width), "ctc.bias": (job.ctc_vocab + 1,)}


def layer_of(name: str, model: ModelConfig) -> int:
    """The decoder layer that decides a parameter's stage: its own, else the first or the last."""
    if number := re.match(r"decoder\.model\.layers\.(\d+)\.", name):
        return int(number[1])
    last = name.startswith(("decoder.lm_head", "decoder.model.norm"))
    return model.decoder.n_layers - 1 if last else 0


def input_numbers(model: ModelConfig, batch) -> int:
    """Number of values in a batch from the loader, 4 bytes each."""
    mel = batch.audio_rows * batch.frames * model.encoder.n_mels
    return mel + batch.rows * (6 * batch.length + batch.ctc_labels + 4)


def state_bytes(model: ModelConfig, rows: int, slots: int, width: int, fused: bool) -> dict[str, int]:
    """Part -> bytes kept between steps while `rows` are answered together."""
    return {
        "KV cache": llama.cache_bytes(model.decoder, rows, slots, width, fused),
        "penalties": rows * model.decoder.vocab_size * 4,  # float32
    }


def constant_bytes(model: ModelConfig, fused: bool) -> int:
    """Bytes of the constants for answering."""
    return llama.constant_bytes(model.decoder, fused)


def layer_outputs(model: ModelConfig, batch, stage) -> int:
    """Elements of the outputs of all layers of a stage, those of encoder and adapter with the first."""
    size = len(stage.layers(depth(model))) * batch.rows * batch.length * model.decoder.d_model
    if stage.first and batch.audio_rows:
        half = model.encoder.frames(batch.frames)
        frames = half * model.encoder.n_layers + model.adapter.tokens(half) * model.adapter.n_layers
        size += batch.audio_rows * frames * model.encoder.d_model
    return size


def head_counts(model: ModelConfig) -> list[int]:
    """Sizes that must be divisible by model_parallel."""
    return [model.decoder.n_heads, model.decoder.n_kv_heads, model.encoder.n_heads, model.adapter.n_heads]


def depth(model: ModelConfig) -> int:
    """Layers that a pipeline divides into stages."""
    return model.decoder.n_layers


def longest(model: ModelConfig) -> int:
    """Positions of the longest sequence."""
    return model.decoder.max_positions


def answer_tokens(model: ModelConfig, asked: int) -> int:
    """Tokens of the longest answer."""
    return asked


def ctc_head(job, model: ModelConfig) -> dict:
    """Values of `Job` (planning/job.py) for the CTC head of a training job."""
    if not job.ctc.weight:
        return {"ctc_only": job.ctc.only}
    return {"ctc_at": job.ctc.at, "ctc_only": job.ctc.only, "ctc_vocab": model.decoder.vocab_size}
