"""Operators and memory of models with an encoder, an adapter and a decoder, for the planner; does not import
MindSpore. `ops` as in models/cost.py.

Legend: B rows, T mel frames, U encoder frames, Z speech tokens, L positions, D width.
"""

from mindspore_osum.models.firered import cost as firered
from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.models.llama import cost as llama
from mindspore_osum.models.whisper import cost as whisper
from mindspore_osum.models.whisper.config import EncoderConfig

ENCODERS = {EncoderConfig: whisper.encoder, FireRedConfig: firered.encoder}


class SpeechCost:
    """Cost of such models, on one device each; a subclass knows the adapter, and whether more is possible.

    The methods that the planner calls are those of `System.cost`.
    """

    def adapter(self, ops, x, model, rows: int, frames: int, learns: bool):
        """Speech tokens (B, Z, decoder width) of the value of `rows` times `frames` encoder frames."""
        raise NotImplementedError

    def loss(self, ops, job, batch, stage):
        """Forward pass of a micro-batch on the devices of `stage`: the loss, or the next stage's input."""
        speech = self.encoded(ops, job.model, batch, job.learn)[1] if self.hears(batch, stage) else None
        return self.token_loss(ops, job, batch, speech, stage)

    def hears(self, batch, stage) -> bool:
        """Whether a stage reads recordings."""
        return bool(batch.audio_rows) and stage.first

    def token_loss(self, ops, job, batch, speech, stage):
        """The cross-entropy of tokens; the hidden states before the last stage."""
        decoder = self.decoder(ops, job.model, job.learn)
        rows = batch.rows * (batch.length - 1 if job.all_text else batch.logits)
        hidden = self.decoded(decoder, job.model, batch, speech, stage, "adapter" in job.learn)
        return ops.token_losses(decoder.logits(hidden, rows), rows) if stage.last else hidden

    def prefill(self, ops, model, batch, stage) -> None:
        """Prefill of a batch of prompts, with the scores of their last position."""
        speech = self.encoded(ops, model, batch)[1] if batch.audio_rows else None
        decoder = self.decoder(ops, model)
        hidden = self.decoded(decoder, model, batch, speech, stage)
        ops.token_losses(decoder.logits(hidden, batch.rows), batch.rows)

    def step(self, ops, model, rows: int, slots: int) -> None:
        """Decode step: one new token per row, with a cache of `slots` slots."""
        decoder = self.decoder(ops, model)
        ops.token_losses(decoder.logits(decoder.step(rows, slots), rows), rows)

    def encoded(self, ops, model, batch, learn: frozenset[str] = frozenset()):
        """Mel frames to encoder frames (B, U, D) and speech tokens (B, Z, decoder width)."""
        encoder = ENCODERS[type(model.encoder)]
        rows, half = batch.audio_rows, model.encoder.frames(batch.frames)
        x = encoder(ops, model.encoder, rows, batch.frames, "encoder" in learn)
        return x, self.adapter(ops, x, model, rows, half, "adapter" in learn)

    def decoder(self, ops, model, learn: frozenset[str] = frozenset()) -> llama.Decoder:
        """The decoder on the tape."""
        return llama.Decoder(ops, model.decoder, model.lora, "decoder" in learn, "lora" in learn)

    def decoded(self, decoder: llama.Decoder, model, batch, speech, stage, learns: bool = False):
        """Embeddings and the stage's layers: hidden states (B, L, D), normalised in the last stage."""
        ops, positions = decoder.ops, batch.rows * batch.length
        if stage.first:
            text = decoder.embed(positions)
            x = text if speech is None else self.joined(ops, model, text, speech, learns)
        else:
            x = ops.arriving(positions * model.decoder.d_model)
        x = decoder.layers(x, batch.rows, batch.length, len(stage.layers(model.decoder.n_layers)))
        return decoder.norm(x) if stage.last else x

    def joined(self, ops, model, text, speech, learns: bool):
        """Token embeddings, with rows of a table of speech tokens at the recordings' positions."""
        return ops.select(text, ops.linear_map("gather", speech, text.bytes))

    # memory, and sizes that are divided among devices

    def extra_shapes(self, job) -> dict[str, tuple[int, ...]]:
        """Parameters of a job that are not the model's: none."""
        return {}

    def loss_values(self, job, model) -> dict:
        """Values of `Job` (planning/job.py) for the losses of a training job."""
        return {}

    def layer_of(self, name: str, model) -> int:
        """The layer that decides a parameter's stage: there is one stage."""
        return 0

    def input_numbers(self, model, batch) -> int:
        """Number of values in a batch from the loader, 4 bytes each."""
        mel = batch.audio_rows * batch.frames * model.encoder.n_mels
        return mel + batch.rows * (6 * batch.length + batch.ctc_labels + 4)

    def state_bytes(self, model, rows: int, slots: int, width: int, fused: bool) -> dict[str, int]:
        """Part -> bytes kept between steps while `rows` are answered together."""
        return {
            "KV cache": llama.cache_bytes(model.decoder, rows, slots, width, fused),
            "penalties": rows * model.decoder.vocab_size * 4,  # float32
        }

    def constant_bytes(self, model, fused: bool) -> int:
        """Bytes of the constants for answering."""
        return llama.constant_bytes(model.decoder, fused)

    def layer_outputs(self, model, batch, stage) -> int:
        """Elements of the outputs of all layers of a stage, those of encoder and adapter with the first."""
        size = len(stage.layers(model.decoder.n_layers)) * batch.rows * batch.length * model.decoder.d_model
        if self.hears(batch, stage):
            half = model.encoder.frames(batch.frames)
            frames = half * model.encoder.n_layers + self.adapter_outputs(model, half)
            size += batch.audio_rows * frames * model.encoder.d_model
        return size

    def adapter_outputs(self, model, frames: int) -> int:
        """Positions of the outputs of all of the adapter's layers; none where it has no such layers."""
        return 0

    def head_counts(self, model) -> list[int]:
        """Sizes that must be divisible by model_parallel, which can only be 1."""
        return [1]

    def depth(self, model) -> int:
        """Layers that a pipeline divides into stages: it cannot."""
        return 1

    def longest(self, model) -> int:
        """Positions of the longest sequence."""
        return model.decoder.max_positions

    def answer_tokens(self, model, asked: int) -> int:
        """Tokens of the longest answer."""
        return asked
