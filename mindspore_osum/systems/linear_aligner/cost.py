"""Operators and memory of a linear aligner, for the planner; does not import MindSpore. `ops` as in
models/cost.py."""

from mindspore_osum.models.aligner.cost import aligner
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.speech_cost import SpeechCost


class LinearAlignerCost(SpeechCost):
    """As `SpeechCost`, with the linear layer."""

    def adapter(self, ops, x, model: LinearAlignerConfig, rows: int, frames: int, learns: bool):
        d, d_out = model.encoder.d_model, model.decoder.d_model
        return aligner(ops, x, model.adapter, d, d_out, rows, frames, learns)


COST = LinearAlignerCost()
