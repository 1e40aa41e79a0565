"""OSUM as an exported model: as `SpeechExport`, with the tags that answers open with in the prompt."""

from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.speech_export import SpeechExport
from mindspore_osum.tasks import TASK_KEYS, answer_starts
from mindspore_osum.text.sequence import opening_ids


class OsumExport(SpeechExport):
    """The exports of OSUM."""

    def around(self, cfg: ModelConfig, tokenizer, template, request_tokens: int) -> int:
        openings = [opening_ids(tokenizer, *answer_starts(key))[0] for key in TASK_KEYS if template.tags]
        opening = max(map(len, openings), default=0)
        return super().around(cfg, tokenizer, template, request_tokens) + opening
