"""OSUM: encoder, adapter and decoder joined over one hybrid sequence [left ; speech ; right].

Legend: B sequences, N audio slots (N = B unless packed), T mel frames, F mel bins, Z speech tokens per slot,
L sequence positions, D decoder width, V vocabulary.

Notable choices
- A position of the sequence is either a text token or a row of the speech table
  [begin; end; Z of slot 0; Z of slot 1; ...] (`speech_row_BL` < 0 means text), so that batches and packs use
  the same code.
- `segments_BL` (0 = padding) masks the attention; positions come from the data.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.adapters.kinds import module_of
from mindspore_osum.models.layers import Embedding
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.models.losses import token_losses
from mindspore_osum.models.sharding import check_split
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.speech_network import SpeechModel, placed


class ShardedEmbedding(nn.Cell):
    """`OsumModel.embed` for a sharded batch: the speech of sequence n is in audio slot n.

    Every device then has the speech tokens of its sequences without communication.
    """

    def __init__(self, begin_row: int, p):
        super().__init__()
        self.begin_row = begin_row
        batch, wide = (p.data_parallel, p.context_parallel), (p.data_parallel, p.context_parallel, 1)
        self.mark_of, self.token_of = ops.Gather(), ops.Gather(1)
        self.mark_of.shard(((1, 1), batch))
        self.token_of.shard(((p.data_parallel, 1, 1), batch))
        self.at_least, self.below, self.add_begin, self.modulo = (
            op.shard((batch, ())) for op in (ops.Maximum(), ops.Minimum(), ops.Add(), ops.FloorMod())
        )
        self.is_text, self.is_token = (op.shard((batch, ())) for op in (ops.Less(), ops.Greater()))
        self.either, self.neither = ops.LogicalOr().shard((batch, batch)), ops.LogicalNot().shard((batch,))
        self.keep_text, self.keep_mark, self.keep_token = (ops.Mul().shard((wide, wide)) for _ in range(3))
        self.add_marks, self.add_tokens = (ops.Add().shard((wide, wide)) for _ in range(2))

    def construct(self, text_BLD, speech_row_BL, table_RD, z_BZD):
        marks_BL = self.add_begin(self.below(self.at_least(speech_row_BL, 0), 1), self.begin_row)
        marks_BLD = self.mark_of(table_RD, marks_BL, 0)
        # row 2 + n*Z + z; values at other positions are masked
        place_BL = self.modulo(self.at_least(self.add_begin(speech_row_BL, -2), 0), z_BZD.shape[1])
        token_BLD = self.token_of(z_BZD, place_BL, 1)
        text_BL, token_BL = self.is_text(speech_row_BL, 0), self.is_token(speech_row_BL, 1)
        mark_BL = self.neither(self.either(text_BL, token_BL))
        dtype, shape = text_BLD.dtype, text_BLD.shape[:2] + (1,)
        x_BLD = self.keep_text(text_BLD, ops.cast(text_BL, dtype).reshape(shape))
        x_BLD = self.add_marks(x_BLD, self.keep_mark(marks_BLD, ops.cast(mark_BL, dtype).reshape(shape)))
        return self.add_tokens(x_BLD, self.keep_token(token_BLD, ops.cast(token_BL, dtype).reshape(shape)))


class OsumModel(SpeechModel):
    """The composite speech language model."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.cfg = cfg
        dtype = getattr(ms, cfg.dtype)
        self.encoder = WhisperEncoder(cfg.encoder, dtype)
        self.adapter = module_of(cfg.adapter.kind, "network").Adapter(
            cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter, dtype
        )
        self.decoder = Decoder(cfg.decoder, cfg.lora, dtype)
        self.speech_token_embed = Embedding(cfg.speech_token_num + 2, cfg.decoder.d_model, dtype)
        self.begin_row = cfg.speech_token_num
        self.sharded_embedding = None

    def shard(self, p):
        """Shard the model over devices; see models/sharding.py.

        Every device gets the full batch. Its sequences must not share audio slots (no packing).

        Raises
        ------
        UserError : it cannot be sharded into these parts.
        """
        check_split(self.cfg.decoder, p)
        for cell, sizes in ((self.encoder, self.cfg.encoder), (self.adapter, self.cfg.adapter)):
            cell.shard(p.of_frames(sizes.n_heads, sizes.d_ff))
        self.decoder.shard(p)
        self.sharded_embedding = ShardedEmbedding(self.begin_row, p)
        if p.pipeline_stage > 1:
            for number, cells in enumerate(self.stages(p.pipeline_stage)):
                for cell in cells:
                    cell.pipeline_stage = number

    def stages(self, count: int) -> list[list[nn.Cell]]:
        """The cells of each of `count` pipeline stages, after `shard`; the first has encoder and adapter."""
        first, *others = self.decoder.stages(count)
        return [[self.encoder, self.adapter, self.sharded_embedding, *first], *others]

    def layers(self):
        """As SpeechModel.layers."""
        return [*self.encoder.encoders, *self.adapter.transformer.encoders, *self.decoder.model.layers]

    def embed(self, token_ids_BL, speech_row_BL, z_NZD):
        """Input embeddings of the hybrid sequence, (B, L, D).

        Parameters
        ----------
        token_ids_BL : int32, text token ids (any valid id at speech positions).
        speech_row_BL : int32, -1 for text, 0 speech begin, 1 speech end, 2 + n*Z + z for token z of slot n.
        z_NZD : speech tokens.
        """
        text_BLD = self.decoder.embed(token_ids_BL)
        if self.sharded_embedding is not None:
            return self.sharded_embedding(text_BLD, speech_row_BL, self.speech_token_embed.weight, z_NZD)
        marks_2D = self.speech_token_embed.weight[self.begin_row : self.begin_row + 2]
        table_RD = ops.concat((marks_2D, z_NZD.reshape((-1, z_NZD.shape[-1]))), 0)
        return placed(text_BLD, speech_row_BL, table_RD)

    def construct(
        self, mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, labels_BL, positions_BL, segments_BL
    ):
        """Training loss: mean cross-entropy over the counted labels of the batch (shifted by one)."""
        hidden = self.hidden_states(
            mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, positions_BL, segments_BL
        )
        loss_BM, count_BM = token_losses(self.decoder.logits(hidden[:, :-1]), labels_BL[:, 1:])
        return ops.reduce_sum(loss_BM) / ops.maximum(ops.reduce_sum(count_BM), 1.0)
