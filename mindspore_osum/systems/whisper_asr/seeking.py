"""A recording window by window, each from where the words of the last one end, as openai-whisper's
`transcribe.py` reads it."""

from dataclasses import replace
from typing import NamedTuple

from mindspore_osum.results import Answer
from mindspore_osum.systems.whisper_asr.answer import fill
from mindspore_osum.systems.whisper_asr.config import WINDOW
from mindspore_osum.systems.whisper_asr.prompts import WhisperPrompts
from mindspore_osum.systems.whisper_asr.sections import Reading, read, text_tokens
from mindspore_osum.systems.whisper_asr.words import Section, SpokenWord, place

FORGET = 0.5  # what is drawn at a higher temperature is not read again


class Earlier(NamedTuple):
    """What comes before a window: the tokens that were written, timestamps included, after the prompt's."""

    tokens: tuple[int, ...]


class Seeking:
    """As `systems.generation.Seeking`.

    Parameters
    ----------
    request : about the recording; its language is detected in the first window, if it has none.
    total : mel frames of the recording.
    previous_text : whether the model reads what it wrote before a window.
    """

    def __init__(self, prompts: WhisperPrompts, request, total: int, previous_text: bool):
        self.cfg, self.prompts, self.previous_text = prompts.cfg, prompts, previous_text
        self.total, self.at = total, 0
        self._asked, self._tokens = request, prompts.text(request.prompt)
        self._spoken = 0.0  # until when somebody spoke

    @property
    def frames(self) -> int:
        """Mel frames of the window; 0 after the last one."""
        return max(0, min(self.cfg.features.frames_in(WINDOW), self.total - self.at))

    @property
    def request(self):
        """The `Request` about the window."""
        return replace(self._asked, prompt="", earlier=Earlier(tuple(self._tokens)))

    def take(self, answer: Answer, written, words: list[SpokenWord] | None) -> None:
        """As `systems.generation.Seeking.take`."""
        features = self.cfg.features
        start, seconds = features.seconds(self.at), features.seconds(self.frames)
        if written.facts and not self._asked.language:
            self._asked = replace(self._asked, language=written.facts["language"])
        if answer.no_speech:
            self.at += self.frames
            return
        reading = read(written.kept, self.cfg.vocabulary, start, seconds)
        until = reading.until if words is None else self._with_words(reading, words, start)
        kept = [one for one in reading.sections if one.start != one.end and self._text(one)]
        fill(answer, kept, self.prompts.tokenizer, self.cfg.vocabulary, start)
        answer.cut = answer.cut and until >= start + seconds  # else the next window has the rest
        self._remember(kept, written.temperature)
        self.at = max(self.at + 1, features.frames_in(until))

    def _with_words(self, reading: Reading, words: list[SpokenWord], start: float) -> float:
        """Give the sections their words; returns until when the window was read."""
        place(reading.sections, words, self.cfg.vocabulary.eot, start, self._spoken)
        spoken = [word for section in reading.sections for word in section.words]
        self._spoken = spoken[-1].end if spoken else reading.sections[-1].end
        return reading.until if reading.closed or self._spoken <= start else self._spoken

    def _text(self, section: Section) -> str:
        return self.prompts.tokenizer.decode(text_tokens([section], self.cfg.vocabulary)).strip()

    def _remember(self, sections: list[Section], temperature: float | None) -> None:
        """What the next window's prompt begins with."""
        if self.previous_text and (temperature or 0.0) <= FORGET:
            self._tokens += [token for section in sections for token in section.tokens]
            self._tokens = self._tokens[-self.prompts.most :]
        else:
            self._tokens = []
