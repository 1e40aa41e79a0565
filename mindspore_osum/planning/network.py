"""A training step, a prefill and a decoding step by their sizes: models/ and training/ on a tape.

Legend: B rows, T mel frames, U encoder frames, Z speech tokens, L positions, M positions with logits, S CTC
labels, D width, H heads, E head size, V vocabulary.
"""

from dataclasses import dataclass, replace

from mindspore_osum.data.batches.batching import Shape, speech_tokens
from mindspore_osum.models.adapters.kinds import module_of
from mindspore_osum.planning.operators import F32, Operators
from mindspore_osum.planning.tape import WORKSPACE, Block, Tape, Value
from mindspore_osum.systems.osum.config import ModelConfig

CTC_BLANK = 1


@dataclass(frozen=True)
class Batch:
    """What one micro-batch on a device holds."""

    rows: int  # B
    audio_rows: int  # rows of mel frames; 0 for text alone
    frames: int  # T of each
    length: int  # L
    logits: int  # M of each row
    ctc_labels: int = 0  # S; 0 without CTC

    @property
    def speech(self) -> int:
        return speech_tokens(self.frames) if self.audio_rows else 0


def padded(shape: Shape, speech: bool, ctc: bool = False) -> Batch:
    """The batch of a static shape: as training/network.py takes it."""
    logits = shape.text_tokens if speech else shape.length - 1
    return Batch(
        shape.size,
        shape.size if speech else 0,
        shape.frames,
        shape.length,
        logits,
        shape.text_tokens if ctc and speech else 0,
    )


def packed(rows: int, tokens: int, longest: Shape, ctc: bool = False) -> Batch:
    """Packs full of the longest recordings: what a pack may hold at most."""
    audio = rows * max(1, tokens // longest.length) if longest.frames > 2 else 0
    return Batch(rows, audio, longest.frames, tokens, tokens - 1, longest.text_tokens if ctc and audio else 0)


@dataclass(frozen=True)
class Part:
    """A device's share of the network."""

    model_parallel: int = 1  # heads, inner widths and vocabulary are divided by it
    layers: int = -1  # decoder layers; -1 all
    first: bool = True  # encoder, adapter and embeddings are here
    last: bool = True  # norm, logits and loss are here


@dataclass(frozen=True)
class Job:
    """What is computed on a batch."""

    model: ModelConfig
    learn: frozenset[str]
    fused: bool  # Ascend's fused operators, else the plain ones of CPU
    recompute: bool = False  # each Transformer layer again in the backward pass
    ctc_at: str = ""  # "encoder" or "adapter"
    ctc_only: bool = False
    ctc_vocab: int = 0
    dropout: bool = True

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return F32 if self.model.dtype == "float32" else 2


class Network:
    """Writes the network of a job down on a tape."""

    def __init__(self, job: Job, part: Part | None = None):
        self.job, self.part, self.cfg = job, part or Part(), job.model
        self.tape = Tape()
        self.ops = Operators(self.tape, job.width, job.fused)

    def training(self, batch: Batch) -> Tape:
        """Forward, backward, clipping and AdamW of one micro-batch that ends a step."""
        losses = []
        if batch.audio_rows and self.part.first:
            frames, speech = self.encode(batch)
            if batch.ctc_labels:
                at = speech if self.job.ctc_at == "adapter" else frames
                losses.append(self.ctc(at, batch, self.job.ctc_at == "adapter"))
        else:
            speech = None
        if not self.job.ctc_only:
            losses.append(self.answer(batch, speech))
        loss = losses[0] if len(losses) == 1 else self.ops.same("add", *losses)
        if loss.grad:
            self.tape.backward(loss)
        self.update()
        return self.tape

    def answer(self, batch: Batch, speech: Value | None) -> Value:
        """Decoder and cross-entropy, or what the next stage of a pipeline gets."""
        hidden = self.decode(batch, speech)
        return self.cross_entropy(hidden, batch) if self.part.last else hidden

    # encoder and adapter

    def encode(self, batch: Batch) -> tuple[Value, Value]:
        """Mel frames to encoder frames (B, U, D) and speech tokens (B, Z, decoder width)."""
        enc, ops, learns = self.cfg.encoder, self.ops, "encoder" in self.job.learn
        n, frames = batch.audio_rows, batch.frames
        half = (frames + 1) // 2
        mel = ops.broadcast(ops.transposed(ops.data(n * frames * enc.n_mels, ops.width)))
        x = ops.broadcast(ops.gelu(ops.convolution(mel, enc.n_mels, enc.d_model, 3, n * frames, learns)))
        x = ops.transposed(ops.gelu(ops.convolution(x, enc.d_model, enc.d_model, 3, n * half, learns)))
        ops.table(x.bytes)
        x = ops.same("add", x)  # positions
        sizes = (n, half, enc.d_model, enc.n_heads, enc.d_ff)
        x = self.layers(x, sizes, enc.n_layers, learns, True, enc.dropout)
        x = ops.broadcast(ops.norm(x, enc.d_model, learns, centred=True))
        return x, self.adapt(x, n, half)

    def adapt(self, x: Value, n: int, frames: int) -> Value:
        """Encoder frames to speech tokens."""
        ada, ops, d = self.cfg.adapter, self.ops, self.cfg.encoder.d_model
        learns, z = "adapter" in self.job.learn, ada.tokens(frames)
        x = module_of(ada.kind, "cost").convolutions(ops, x, ada, d, n, frames, learns)
        x = ops.norm(ops.linear(x, d, d, learns), d, learns, centred=True)
        ops.table(x.bytes)
        x = ops.same("add", ops.copy(x))
        x = self.layers(x, (n, z, d, ada.n_heads, ada.d_ff), ada.n_layers, learns, False, ada.dropout)
        x = ops.norm(x, d, learns, centred=True)
        width = self.cfg.decoder.d_model
        return ops.linear(x, d, width, learns)

    def layers(self, x: Value, sizes, count: int, learns: bool, gelu: bool, dropout: float) -> Value:
        """Transformer layers of encoder and adapter; sizes = (rows, frames, width, heads, inner width)."""
        n, frames, *_ = sizes
        mask = self.ops.data(n * frames * frames, 1) if self.job.fused else self.ops.data(n * frames, F32)
        for _ in range(count):
            x = self.layer(lambda y: self.encoder_layer(y, mask, sizes, learns, gelu, dropout), x)
        return x

    def layer(self, part, x: Value) -> Value:
        return self.tape.recomputed(part, x) if self.job.recompute else part(x)

    def encoder_layer(self, x: Value, mask: Value, sizes, learns: bool, gelu: bool, dropout: float) -> Value:
        ops, (n, frames, d, heads, d_ff), mp = self.ops, sizes, self.part.model_parallel
        p = dropout if self.job.dropout else 0.0

        y = ops.norm(x, d, learns, centred=True)
        q, k, v = (
            ops.transposed(ops.linear(y, d, d // mp, learns, not gelu or name != "k")) for name in "qkv"
        )
        y = ops.attention(q, k, v, mask, (n * heads // mp, frames, frames, d // heads))
        x = ops.same("add", x, ops.dropout(ops.linear(y, d // mp, d, learns), p))
        y = ops.linear(ops.norm(x, d, learns, centred=True), d, d_ff // mp, learns)
        y = ops.gelu(y) if gelu else ops.unary("relu", y, 1, keeps_output=True)
        return ops.same("add", x, ops.dropout(ops.linear(y, d_ff // mp, d, learns), p))

    # decoder

    def decode(self, batch: Batch, speech: Value | None) -> Value:
        """Embeddings and layers: hidden states (B, L, D)."""
        dec, ops, places = self.cfg.decoder, self.ops, batch.rows * batch.length
        if self.part.first:
            x = self.embed(batch, speech)
        else:  # from the stage before, which waits for its gradient
            x = Value(ops.data(places * dec.d_model, ops.width).block, True)
        scores = batch.rows * batch.length**2
        mask = ops.data(scores, 1)
        if not self.job.fused:
            ops.table(2 * scores * ops.width)  # segments compared, and joined with the causal mask
            mask = ops.copy(ops.linear_map("cast", mask, scores * F32))
        count = dec.n_layers if self.part.layers < 0 else self.part.layers
        for _ in range(count):
            x = self.layer(lambda y: self.decoder_layer(y, mask, batch.rows, batch.length, batch.length), x)
        return ops.norm(x, dec.d_model, "decoder" in self.job.learn, centred=False) if self.part.last else x

    def embed(self, batch: Batch, speech: Value | None) -> Value:
        """Rows of the token embedding, and of the speech table where speech is."""
        dec, ops, places = self.cfg.decoder, self.ops, batch.rows * batch.length
        size = places * dec.d_model * ops.width
        text = self.rows_of(dec.vocab_size // self.part.model_parallel, size, "decoder")
        if speech is None:
            return text
        marks = self.rows_of(self.cfg.speech_token_num + 2, 2 * dec.d_model * ops.width, "adapter")
        table = ops.tape.op(
            "concat",
            [marks, speech],
            marks.bytes + speech.bytes,
            lambda dout: [(v, self.tape.step("slice", [dout], v.bytes)) for v in (marks, speech)],
        )
        read = ops.linear_map("gather", table, size)
        where = ops.data(places * dec.d_model, 1)
        return self.tape.op(
            "select",
            [where, text, read],
            size,
            lambda dout: [(v, self.tape.step("select", [dout, where.block], size)) for v in (text, read)],
        )

    def rows_of(self, rows: int, size: int, owner: str) -> Value:
        """Rows of a table that is a parameter."""
        learns, width = owner in self.job.learn, self.cfg.decoder.d_model * self.ops.width

        def gradient(dout: Block):
            self.tape.weight_grad("scatter", [dout], rows * width)
            return []

        return self.tape.op("gather", [], size, gradient, learns, params=size)

    def decoder_layer(
        self, x: Value, mask: Value, rows: int, length: int, keys: int, cached: bool = False
    ) -> Value:
        dec, ops, mp = self.cfg.decoder, self.ops, self.part.model_parallel
        heads, kv_heads, e = dec.n_heads // mp, max(1, dec.n_kv_heads // mp), dec.head_dim
        learns, d_ff = "decoder" in self.job.learn, dec.d_ff // mp
        y = ops.norm(x, dec.d_model, learns, centred=False)
        q, k, v = (
            ops.transposed(self.projection(y, f"{name}_proj", dec.d_model, n * e, dec.qkv_bias))
            for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        if dec.qk_norm:
            q, k = (ops.norm(z, e, learns, centred=False) for z in (q, k))
        q, k = ops.rotary(q, e), ops.rotary(k, e)
        if cached:  # the cache lies in parameters
            k, v = (ops.data(rows * keys * kv_heads * e, ops.width) for _ in "kv")
        y = ops.attention(q, k, v, mask, (rows * heads, length, keys, e), causal=not cached)
        x = ops.same("add", x, self.projection(y, "o_proj", heads * e, dec.d_model, dec.o_bias))
        y = ops.norm(x, dec.d_model, learns, centred=False)
        gate, up = (self.projection(y, f"{name}_proj", dec.d_model, d_ff) for name in ("gate", "up"))
        return ops.same("add", x, self.projection(ops.swiglu(gate, up), "down_proj", d_ff, dec.d_model))

    def projection(self, x: Value, name: str, d_in: int, d_out: int, bias: bool = False) -> Value:
        """models/layers.py Linear, with its LoRA."""
        ops, lora, learns = self.ops, self.cfg.lora, "decoder" in self.job.learn
        y = ops.linear(x, d_in, d_out, learns, bias)
        if not lora.rank or name not in lora.targets:
            return y
        learns = "lora" in self.job.learn
        low = ops.matmul(ops.dropout(x, lora.dropout if self.job.dropout else 0.0), d_in, lora.rank, learns)
        return ops.same("add", y, ops.matmul(ops.copy(low), lora.rank, d_out, learns))

    # losses

    def cross_entropy(self, hidden: Value, batch: Batch) -> Value:
        """Logits in float32 of the positions that may have labels, and their losses."""
        dec, ops, tape = self.cfg.decoder, self.ops, self.tape
        rows, vocab = batch.rows * batch.logits, dec.vocab_size // self.part.model_parallel
        taken = ops.linear_map("take", ops.copy(hidden), rows * dec.d_model * ops.width)
        learns = "decoder" in self.job.learn
        scores = ops.matmul(taken, dec.d_model, vocab, learns and not dec.tie_embeddings)
        if ops.width != F32:
            scores = ops.linear_map("cast", scores, rows * vocab * F32)

        def gradient(dout: Block):
            picked = tape.step("scatter", [dout], scores.bytes)
            soft = tape.step("softmax", [scores.block], scores.bytes)
            ops.table(scores.bytes)
            return [(scores, picked), (scores, tape.step("mul", [soft, dout], scores.bytes))]

        tape.step("log softmax", [scores.block], scores.bytes)
        return tape.op("loss", [scores], rows * F32, gradient)

    def ctc(self, x: Value, batch: Batch, on_speech: bool) -> Value:
        """The CTC head and its loss."""
        ops, tape, learns = self.ops, self.tape, "encoder" in self.job.learn
        n, frames = batch.audio_rows, batch.speech if on_speech else (batch.frames + 1) // 2
        d = self.cfg.decoder.d_model if on_speech else self.cfg.encoder.d_model
        classes, path = self.job.ctc_vocab + CTC_BLANK, n * frames * (2 * batch.ctc_labels + 1) * F32
        full = n * frames * d * F32
        x = ops.linear_map("cast", x, full) if ops.width != F32 else x
        flat = ops.shifted(ops.matmul(x, d, classes, learns, F32), classes, learns)
        log_p = ops.transposed(self.log_softmax(flat))
        alpha = ops.data(path, 1)

        def gradient(dout: Block):
            return [(log_p, tape.step("ctc", [dout, log_p.block, alpha.block], log_p.bytes))]

        return tape.op("ctc", [log_p, alpha], n * F32, gradient)

    def log_softmax(self, x: Value) -> Value:
        out = self.tape.op(
            "log softmax",
            [x],
            x.bytes,
            lambda dout: [(x, self.tape.step("log softmax", [dout, out.block], x.bytes))],
        )
        return out

    # optimizer

    def update(self) -> None:
        """Clipping by the norm of all gradients, then AdamW parameter by parameter."""
        tape, full = self.tape, F32 / self.job.width
        grads, tape.update_steps = tape.weight_grads, len(tape.steps)
        tape.step("norm", grads, F32, kind=WORKSPACE)
        clipped = [tape.step("scale", [g], g.bytes, kind=WORKSPACE) for g in grads]
        for grad in clipped:
            size = int(grad.bytes * full)
            state = 2 * 3 * size  # weight or its copy and two moments, read and written
            whole = tape.step("cast", [grad], size, kind=WORKSPACE) if full > 1 else grad
            tape.step("adamw", [whole], size if self.job.fused else 0, params=state, kind=WORKSPACE)

    # inference

    def prefill(self, batch: Batch) -> Tape:
        """The prompts of a batch, and the scores of their last position."""
        speech = self.encode(batch)[1] if batch.audio_rows else None
        self.cross_entropy(self.decode(batch, speech), replace(batch, logits=1))
        return self.tape

    def decoding(self, rows: int, places: int) -> Tape:
        """One new token of each row with a cache of so many places."""
        dec, ops = self.cfg.decoder, self.ops
        x = ops.data(rows * dec.d_model, ops.width)
        mask = ops.data(rows * places, F32)
        for _ in range(dec.n_layers):
            x = self.decoder_layer(x, mask, rows, 1, places, cached=True)
        x = ops.norm(x, dec.d_model, False, centred=False)
        self.cross_entropy(x, Batch(rows, 0, 0, 1, 1))
        return self.tape
