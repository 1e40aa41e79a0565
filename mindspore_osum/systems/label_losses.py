"""Cross-entropy of the labels in sequences of text and speech, for systems with encoder, adapter and decoder.

Legend: B rows, Z speech tokens, D width, L sequence positions, M positions with a next one.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.losses import IGNORE, token_losses
from mindspore_osum.models.ops import segment_causal_mask


class LabelLosses(nn.Cell):
    """Base class of objectives.

    Parameters
    ----------
    model : a cell with `embed` and `decoder`, as systems/osum/network.py `OsumModel` has them.
    """

    def __init__(self, model: nn.Cell):
        super().__init__()
        self.model = model

    def label_losses(self, batch, z_BZD=None, room: int = 0):
        """Cross-entropy (B, M) of each label, and the number of its span.

        Parameters
        ----------
        batch : named columns: `token_ids_BL`, `speech_row_BL`, `labels_BL`, `spans_BL`, `positions_BL`,
            `segments_BL`.
        z_BZD : speech tokens; None where no example has any.
        room : all labels of a row are among so many positions that end with its last label; 0: anywhere.
        """
        token_ids_BL, labels_BL = batch["token_ids_BL"], batch["labels_BL"]
        if z_BZD is None:
            x_BLD = self.model.decoder.embed(token_ids_BL)
        else:
            x_BLD = self.model.embed(token_ids_BL, batch["speech_row_BL"], z_BZD)
        mask = segment_causal_mask(batch["segments_BL"])
        hidden_BLD = self.model.decoder(x_BLD, batch["positions_BL"], mask)
        hidden_BMD, labels_BM, spans_BM = hidden_BLD[:, :-1], labels_BL[:, 1:], batch["spans_BL"][:, 1:]
        if room > 0:
            places_BM = last_places(labels_BM, room)
            hidden_BMD, labels_BM, spans_BM = (
                take(hidden_BMD, places_BM),
                take(labels_BM, places_BM),
                take(spans_BM, places_BM),
            )
        return token_losses(self.model.decoder.logits(hidden_BMD), labels_BM)[0], spans_BM


def last_places(labels_BM, room: int):
    """The `room` positions of each row that end with its last label, int32 (B, room).

    Logits are the most expensive part of a small model's step, so they are computed only near labels.
    """
    place_1M = ops.arange(0, labels_BM.shape[1]).expand_dims(0)
    last_B1 = ops.max(place_1M * ops.cast(labels_BM != IGNORE, ms.int32), 1, True)[0]
    return ops.maximum(last_B1 - (room - 1), 0) + ops.arange(0, room).expand_dims(0)


def take(values_BMx, places_BN):
    """values[b, places[b, n]] for every row b: (B, N) or (B, N, D)."""
    b, m = values_BMx.shape[:2]
    flat = values_BMx.reshape((b * m,) + values_BMx.shape[2:])
    return ops.gather(flat, places_BN + m * ops.arange(0, b).expand_dims(-1), 0)
