"""Encoder, adapter and decoder joined over one sequence of text and speech.

Legend: B sequences, N audio slots (N = B unless packed), T mel frames, F mel bins, Z speech tokens per slot,
L sequence positions, D decoder width, R rows of a table.
"""

from mindspore import nn, ops

from mindspore_osum.models.layers import recompute
from mindspore_osum.models.ops import segment_causal_mask

FIRST_TOKEN = 2
"""Row of the first speech token in `speech_row_BL`; 0 and 1 are the speech BOS and EOS (text/sequence.py)."""


def placed(text_BLD, row_BL, table_RD):
    """Text embeddings with rows of a table at the positions whose row is 0 or more."""
    speech_BLD = ops.gather(table_RD, ops.maximum(row_BL, 0), 0)
    return ops.select((row_BL >= 0).expand_dims(-1).broadcast_to(text_BLD.shape), speech_BLD, text_BLD)


class SpeechModel(nn.Cell):
    """Base of such models; a subclass makes `encoder`, `adapter`, `decoder` and `cfg`."""

    def encode_speech(self, mel_NTF, mel_len_N):
        """(N, T, F) log-mel and lengths -> (N, Z, D) speech tokens and their lengths."""
        h_NUE, len_N = self.encoder(mel_NTF, mel_len_N)
        return self.adapter(h_NUE, len_N)

    def embed(self, token_ids_BL, speech_row_BL, z_NZD):
        """Input embeddings of a sequence in which recordings have no speech BOS and EOS, (B, L, D).

        Parameters
        ----------
        token_ids_BL : int32, text token ids (any valid id at speech positions).
        speech_row_BL : int32, -1 for text, FIRST_TOKEN + n*Z + z for token z of slot n.
        z_NZD : speech tokens.
        """
        table_RD = z_NZD.reshape((-1, z_NZD.shape[-1]))
        return placed(self.decoder.embed(token_ids_BL), speech_row_BL - FIRST_TOKEN, table_RD)

    def hidden_states(self, mel_NTF, mel_len_N, token_ids_BL, speech_row_BL, positions_BL, segments_BL):
        """Decoder output (B, L, D) for a whole batch, without cache."""
        z_NZD, _ = self.encode_speech(mel_NTF, mel_len_N)
        x_BLD = self.embed(token_ids_BL, speech_row_BL, z_NZD)
        return self.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))

    def layers(self):
        """The layers whose activations `recompute_layers` does not store."""
        return [*self.encoder.encoders, *self.decoder.model.layers]

    def recompute_layers(self, config):
        """As models/layers.py `recompute`."""
        recompute(self.layers(), config)
