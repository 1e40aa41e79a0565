"""Generation with a TouchASU: greedy without a penalty, as WEST's ASR; several tokens end it."""

from dataclasses import replace

from mindspore_osum.systems.speech_generation import SpeechGeneration
from mindspore_osum.systems.touch_asu.network import TouchAsuModel


def without_penalty(sampling):
    """The settings without the repetition penalty that OSUM has by default."""
    usual = sampling.repetition_penalty == type(sampling)().repetition_penalty
    return replace(sampling, repetition_penalty=1.0) if usual else sampling


class TouchAsuGeneration(SpeechGeneration):
    """The generation interface of one model."""

    def __init__(self, model: TouchAsuModel):
        super().__init__(model)
        self.eos_ids = model.cfg.eos_ids

    def settings(self, sampling):
        return without_penalty(sampling)
