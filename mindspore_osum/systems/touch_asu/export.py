"""A TouchASU as an exported model: as `SpeechExport`, with several tokens that end an answer."""

from mindspore_osum.systems.speech_export import SpeechExport
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig
from mindspore_osum.systems.touch_asu.generation import without_penalty


class TouchAsuExport(SpeechExport):
    """The exports of TouchASU."""

    def settings(self, cfg: TouchAsuConfig, sampling):
        return without_penalty(sampling)

    def eos_ids(self, cfg: TouchAsuConfig) -> tuple[int, ...]:
        return cfg.eos_ids
