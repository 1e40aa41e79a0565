"""What Whisper wrote as an answer: text between timestamps, and what it says of the recording."""

import re
import zlib
from collections.abc import Sequence

from mindspore_osum.results import Answer, Word
from mindspore_osum.systems.whisper_asr.config import WINDOW
from mindspore_osum.systems.whisper_asr.sections import text_tokens
from mindspore_osum.systems.whisper_asr.vocabulary import Vocabulary
from mindspore_osum.systems.whisper_asr.words import Section

# openai-whisper's: nobody speaks if this is likelier, and the words are unlikelier; words that are unlikelier
# or that repeat themselves more are drawn anew
SILENCE, DOUBT, REPEATED = 0.6, -1.0, 2.4
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
_TIME = re.compile(r"<\|(\d{1,2}\.\d\d)\|>")
_LABEL = re.compile(r"\s*<[^<>|]{1,30}>\s*")
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


def is_label(raw: str) -> bool:
    """Whether an answer is a label (tags.py) and no text."""
    return _LABEL.fullmatch(raw) is not None


def describe(answer: Answer, facts: dict[str, object], log_p: float | None) -> None:
    """As `System.describe`."""
    answer.avg_logprob = None if log_p is None else round(log_p, 6)
    answer.compression_ratio = round(compression_ratio(answer.text), 6)
    if not facts:
        return
    answer.language = facts["language"]
    answer.no_speech_prob = round(facts["no_speech_probability"], 6)
    if silent(facts, log_p):
        answer.text, answer.sections, answer.no_speech = "", [], True


def silent(facts: dict[str, object], log_p: float | None) -> bool:
    """Whether nobody speaks in a window."""
    return bool(facts) and facts["no_speech_probability"] > SILENCE and log_p is not None and log_p < DOUBT


def doubtful(raw: str, facts: dict[str, object], log_p: float | None) -> bool:
    """As `System.doubtful`; a label is never drawn anew."""
    if is_label(raw):
        return False
    unlikely = log_p is not None and log_p < DOUBT
    repeated = compression_ratio(parse(raw).text) > REPEATED
    return (unlikely or repeated) and not silent(facts, log_p)


def fill(
    answer: Answer, sections: Sequence[Section], tokenizer, vocabulary: Vocabulary, start: float
) -> None:
    """Give an answer these sections, their words, and the text of both; times from `start`, the window's."""

    def text(sections: Sequence[Section]) -> str:
        return tokenizer.decode(text_tokens(sections, vocabulary)).strip()

    answer.text = text(sections)
    answer.sections = [Word(text([one]), one.start - start, one.end - start) for one in sections]
    words = [word for section in sections for word in section.words if word.text.strip()]
    if words:
        answer.words = [Word(word.text.strip(), word.start - start, word.end - start) for word in words]
        answer.word_confidence = [(word.text.strip(), round(word.probability, 4)) for word in words]


def compression_ratio(text: str) -> float:
    """Bytes of a text over those that zlib makes of them."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
