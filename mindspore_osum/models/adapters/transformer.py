"""The Transformer over speech tokens that follows the convolutions in every kind of adapter.

Legend: B batch, Z speech tokens, D encoder width.
"""

from mindspore import Tensor, nn, ops

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.layers import LayerNorm, Linear, TransformerLayer
from mindspore_osum.models.ops import cells, frame_positions, key_mask
from mindspore_osum.models.positions import interleaved_sinusoids
from mindspore_osum.models.whisper.config import MAX_FRAMES


class AdapterTransformer(nn.Cell):
    """Linear + LayerNorm, scaled by sqrt(D), sinusoids added, pre-norm layers with ReLU."""

    def __init__(self, d: int, cfg: AdapterConfig, dtype):
        super().__init__()
        self.embed = nn.CellList([Linear(d, d, dtype=dtype), LayerNorm(d, 1e-5, dtype)])
        self.encoders = nn.CellList(
            [
                TransformerLayer(
                    d,
                    cfg.n_heads,
                    cfg.d_ff,
                    key_bias=True,
                    activation="relu",
                    eps=cfg.norm_eps,
                    dropout=cfg.dropout,
                    dtype=dtype,
                )
                for _ in range(cfg.n_layers)
            ]
        )
        self.after_norm = LayerNorm(d, cfg.norm_eps, dtype)
        self.scale, self.attention_mask = float(d) ** 0.5, cells(dtype).AttentionMask()
        self.enlarge, self.add_positions, self.is_sharded = ops.Mul(), ops.Add(), False
        self.positions_ZD = Tensor(interleaved_sinusoids(cfg.tokens(MAX_FRAMES), d), dtype)

    def construct(self, x_BZD, len_B):
        b, z, d = x_BZD.shape
        x = x_BZD.reshape((-1, d)) if self.is_sharded else x_BZD
        x = self.enlarge(self.embed[1](self.embed[0](x)), self.scale)
        x_BZD = self.add_positions(x.reshape((b, z, d)), frame_positions(self.positions_ZD, len_B, z))
        mask = self.attention_mask(key_mask(z, len_B), z)
        x = x_BZD.reshape((-1, d)) if self.is_sharded else x_BZD
        for layer in self.encoders:
            x = layer(x, mask)
        return self.after_norm(x).reshape((b, z, d))

    def shard(self, p):
        """As WhisperEncoder.shard."""
        self.is_sharded = True
        self.embed[0].shard(p)
        self.embed[1].shard(p.rows)
        self.enlarge.shard(((p.rows, 1), ()))
        self.add_positions.shard(((p.data_parallel, 1, 1), (1, 1, 1)))
        self.attention_mask.shard(p)
        for layer in self.encoders:
            layer.shard(p)
        self.after_norm.shard(p.rows)
