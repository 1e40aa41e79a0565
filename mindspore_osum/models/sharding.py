"""How a model is sharded over devices: the numbers from which every cell's `shard` derives its strategy.

Notable choices
- Names and values are those of MindFormers' `parallel_config`.
- Encoder and adapter are sharded over data and heads only; sequence and context parallel apply to the
  decoder. Where their heads (the published adapter has 4) are not divisible by `model_parallel`, they are
  sharded into fewer parts, and the remaining devices repeat the same work.
- In a sharded layer all tensors have two axes, (rows, width), rows = batch x positions, so that rows are
  sharded alike for matmuls, norms and residuals. Without sharding batch and positions are separate axes,
  which changes only the order of the sums in a norm's gradient.
"""

import math
from dataclasses import dataclass, fields, replace

from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig


@dataclass(frozen=True)
class ParallelConfig:
    """Numbers of parts that tensors and weights are sharded into."""

    data_parallel: int = 1  # of the batch
    model_parallel: int = 1  # of heads and of hidden widths
    context_parallel: int = 1  # of the positions of a sequence
    pipeline_stage: int = 1  # of the layers
    use_seq_parallel: bool = (
        False  # norms and residuals are sharded over positions in the model parallel group
    )
    vocab_emb_dp: bool = True  # full embedding and head on every device; else sharded over the vocabulary

    @classmethod
    def of(cls, config) -> "ParallelConfig":
        """From an object with these attributes, such as MindFormers' TransformerOpParallelConfig."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @property
    def rows(self) -> int:
        """Parts of the rows of a matmul."""
        return self.data_parallel * self.context_parallel

    @property
    def norm_rows(self) -> int:
        """Parts of the rows of norms and residuals."""
        return self.rows * (self.model_parallel if self.use_seq_parallel else 1)

    @property
    def vocabulary(self) -> int:
        """Parts of the vocabulary."""
        return 1 if self.vocab_emb_dp else self.model_parallel

    def of_frames(self, n_heads: int, d_ff: int) -> "ParallelConfig":
        """For encoder or adapter: positions not sharded, and the most parts that these numbers allow."""
        parts = math.gcd(self.model_parallel, n_heads, d_ff)
        return replace(self, model_parallel=parts, context_parallel=1, use_seq_parallel=False)


def check_split(dec: DecoderConfig, p: ParallelConfig) -> None:
    """Refuse numbers of parts that the decoder's heads, width, vocabulary or layers are not divisible by.

    Raises
    ------
    UserError : names the setting and the size.
    """
    sizes = {
        "decoder.n_heads": dec.n_heads,
        "decoder.n_kv_heads": dec.n_kv_heads,
        "decoder.d_ff": dec.d_ff,
    }
    if dec.qk_norm:
        raise UserError(
            "parallel.parallel_mode: a decoder with norms on queries and keys (qk_norm) cannot be"
            " sharded over devices; give 0 (data parallel)"
        )
    if not p.vocab_emb_dp:
        sizes["decoder.vocab_size"] = dec.vocab_size
    for name, size in sizes.items():
        if size % p.model_parallel:
            raise UserError(
                f"parallel_config.model_parallel: {name} {size} is not divisible by "
                f"{p.model_parallel}; choose a divisor"
            )
    if p.pipeline_stage > dec.n_layers:
        raise UserError(
            f"parallel_config.pipeline_stage: {p.pipeline_stage} stages for "
            f"{dec.n_layers} decoder layers; choose at most as many"
        )
    if p.pipeline_stage > 1 and dec.tie_embeddings:
        raise UserError(
            "parallel_config.pipeline_stage: the head shares the embedding's weight, which is in "
            "another stage; choose 1 for a model with tie_embeddings"
        )
