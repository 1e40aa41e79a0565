"""What Whisper wrote as an answer: text between timestamps, and what it says of the recording."""

import re

from mindspore_osum.results import Answer, Word
from mindspore_osum.systems.whisper_asr.config import WINDOW

SILENCE, DOUBT = 0.6, -1.0  # nobody speaks if this is likelier, and the words are unlikelier (openai-whisper)
_TIME = re.compile(r"<\|(\d{1,2}\.\d\d)\|>")
_MARK = re.compile(r"<\|[^<>|]{1,30}\|>")


def parse(raw: str) -> Answer:
    """The transcript, and its sections where there are timestamps; a last one without an end has that of the
    window."""
    pieces = _TIME.split(raw)
    texts = [_MARK.sub("", text) for text in pieces[::2]]
    times = [0.0, *map(float, pieces[1::2]), WINDOW]
    timed = [(text.strip(), *times[n : n + 2]) for n, text in enumerate(texts)] if len(pieces) > 1 else []
    sections = [Word(text, start, max(start, end)) for text, start, end in timed if text]
    return Answer(text="".join(texts).strip(), raw=raw, sections=sections)


def describe(answer: Answer, facts: dict[str, object], log_p: float | None) -> None:
    """As `System.describe`."""
    answer.avg_logprob = None if log_p is None else round(log_p, 6)
    if not facts:
        return
    answer.language = facts["language"]
    answer.no_speech_prob = round(facts["no_speech_probability"], 6)
    if answer.no_speech_prob > SILENCE and log_p is not None and log_p < DOUBT:
        answer.text, answer.sections, answer.no_speech = "", [], True
