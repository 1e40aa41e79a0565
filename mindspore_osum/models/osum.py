"""OSUM: encoder, adapter and decoder joined over one hybrid sequence [left ; speech ; right].

Legend: B sequences, N audio slots (N = B unless packed), T mel frames, F mel bins, Z speech tokens a slot,
L sequence positions, D decoder width, V vocabulary.

Notable choices
- A position of the sequence is either a text token or a row of the speech table
  [begin; end; Z of slot 0; Z of slot 1; ...] (`speech_row_BL` < 0 means text): batches and packs are one
  path.
- `segments_BL` (0 = padding) masks the attention; positions come from the data.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.config import ModelConfig
from mindspore_osum.models.adapters import ADAPTERS
from mindspore_osum.models.decoder import Decoder
from mindspore_osum.models.layers import Embedding
from mindspore_osum.models.ops import log_sum_exp, segment_causal_mask
from mindspore_osum.models.whisper import WhisperEncoder

IGNORE = -100  # label of a position without a target


class OsumModel(nn.Cell):
    """The composite speech language model."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.cfg = cfg
        dtype = getattr(ms, cfg.dtype)
        self.encoder = WhisperEncoder(cfg.encoder, dtype)
        self.adapter = ADAPTERS[cfg.adapter.kind](
            cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter, dtype
        )
        self.decoder = Decoder(cfg.decoder, cfg.lora, dtype)
        self.speech_token_embed = Embedding(cfg.speech_token_num + 2, cfg.decoder.d_model, dtype)
        self.begin_row = cfg.speech_token_num

    def encode_speech(self, mel_NTF, mel_len_N):
        """(N, T, F) log-mel and lengths -> (N, Z, D) speech tokens and their lengths, Z = ceil(T/8)."""
        h_NUD, len_N = self.encoder(mel_NTF, mel_len_N)
        return self.adapter(h_NUD, len_N)

    def embed(self, token_ids_BL, speech_row_BL, z_NZD):
        """Input embeddings of the hybrid sequence, (B, L, D).

        Parameters
        ----------
        token_ids_BL : int32, text token ids (anything valid at speech places).
        speech_row_BL : int32, -1 for text, 0 speech begin, 1 speech end, 2 + n*Z + z for token z of slot n.
        z_NZD : speech tokens.
        """
        text_BLD = self.decoder.embed(token_ids_BL)
        marks_2D = self.speech_token_embed.weight[self.begin_row : self.begin_row + 2]
        table_RD = ops.concat((marks_2D, z_NZD.reshape((-1, z_NZD.shape[-1]))), 0)
        speech_BLD = ops.gather(table_RD, ops.maximum(speech_row_BL, 0), 0)
        return ops.select(
            (speech_row_BL >= 0).expand_dims(-1).broadcast_to(text_BLD.shape), speech_BLD, text_BLD
        )

    def hidden_states(self, mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, positions_BL, segments_BL):
        """Decoder output (B, L, D) for a whole batch, without cache."""
        z_NZD, _ = self.encode_speech(mel_NTF, mel_len_N)
        x_BLD = self.embed(token_ids_BL, speech_row_BL, z_NZD)
        return self.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))

    def construct(
        self, mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, labels_BL, positions_BL, segments_BL
    ):
        """Training loss: mean cross-entropy over the counted labels of the batch (shifted by one)."""
        hidden = self.hidden_states(
            mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, positions_BL, segments_BL
        )
        loss_BM, count_BM = token_losses(self.decoder.logits(hidden[:, :-1]), labels_BL[:, 1:])
        return ops.reduce_sum(loss_BM) / ops.maximum(ops.reduce_sum(count_BM), 1.0)


def token_losses(logits_BMV, labels_BM):
    """Cross-entropy of each label, 0 where it is IGNORE, and the float32 0/1 count of labels, both (B, M)."""
    count_BM = ops.cast(labels_BM != IGNORE, ms.float32)
    safe_BM1 = ops.maximum(labels_BM, 0).expand_dims(-1)
    picked_BM = ops.gather_elements(logits_BMV, -1, safe_BM1).squeeze(-1)
    return (log_sum_exp(logits_BMV) - picked_BM) * count_BM, count_BM
