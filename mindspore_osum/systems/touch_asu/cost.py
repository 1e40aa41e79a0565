"""Operators and memory of a TouchASU, for the planner; does not import MindSpore. `ops` as in
models/cost.py."""

from mindspore_osum.models.projector.cost import projector
from mindspore_osum.systems.speech_cost import SpeechCost
from mindspore_osum.systems.touch_asu.config import PLACEHOLDER, TouchAsuConfig


class TouchAsuCost(SpeechCost):
    """As `SpeechCost`, with the projector, and a loss of all text."""

    def adapter(self, ops, x, model: TouchAsuConfig, rows: int, frames: int, learns: bool):
        d, d_out = model.encoder.d_model, model.decoder.d_model
        z = projector(ops, x, model.adapter, d, d_out, rows, frames, learns)
        return ops.copy(z) if model.leftover == PLACEHOLDER else z

    def loss_values(self, job, model: TouchAsuConfig) -> dict:
        return {"all_text": job.loss.prompt}


COST = TouchAsuCost()
