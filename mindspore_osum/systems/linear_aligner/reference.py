"""The linear aligner in PyTorch: the reference of a verification.

It shares no code with our cells and key tables: it imports only configurations of this package.

Legend: B rows, U encoder frames, Z speech tokens, E encoder width.
"""

import torch
from torch.nn import functional

from mindspore_osum.systems import reference as shared
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.reference import DECODER, Checkpoint


class _File(Checkpoint):
    """A linear aligner in one file, or a checkpoint of its encoder or decoder."""

    patterns = (
        (r"^(model\.)?encoder\.", "encoder."),
        (r"^aligner\.", "adapter.proj."),
        (r"^llm\.(base_model\.model\.)?", "decoder."),
        *DECODER,
    )

    def adapted(self, cfg: LinearAlignerConfig, h_BUE):
        spans = h_BUE.split(cfg.adapter.frames_per_token, dim=1)
        mean_BZE = torch.stack([span.mean(1) for span in spans], dim=1)
        z_BZD = functional.linear(
            mean_BZE, self.tensor("adapter.proj.weight"), self.tensor("adapter.proj.bias")
        )
        return functional.pad(z_BZD, (0, cfg.decoder.d_model - z_BZD.shape[2]))


def stages(weights, *args) -> dict:
    """As systems/reference.py `stages`, of an open checkpoint (`weights_io.Weights`)."""
    return shared.stages(_File(weights), *args)
