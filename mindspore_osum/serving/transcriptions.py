"""Transcriptions: the form, and the answer whole, as subtitles, or piece by piece.

Notable choices
- `language` cannot be given to a model that detects it: it is echoed, and a warning says so.
- `prompt` and `keywords` of OpenAI's API, and `hotwords` of other servers, are the request's hotwords.
- Streamed deltas are text without tags; the event at the end has the whole text.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import make_request
from mindspore_osum.results import Response, join_text
from mindspore_osum.serving.batcher import Job
from mindspore_osum.serving.bodies import ApiError
from mindspore_osum.serving.fields import Strict, event, finish_reason, read_model, sampling
from mindspore_osum.subtitles import write

_LANGUAGE = re.compile(r"[A-Za-z]{2,12}([-_][A-Za-z0-9]{2,8})*")  # a code of ISO 639 or BCP 47, or a name
_UNCLOSED = re.compile(r"<[^<>]*$")
_HEADER = 1000  # characters of warnings in a header
PLAIN = "text/plain; charset=utf-8"


class TranscriptionForm(Strict):
    """The fields of a transcription request besides its file."""

    NEUTRAL: ClassVar[dict[str, tuple]] = {"include": (), "chunking_strategy": ("auto",)}

    model: str
    response_format: Literal["json", "verbose_json", "text", "srt", "vtt"] = "json"
    language: str = "und"  # undetermined (ISO 639-2)
    temperature: float = 0.0
    timestamp_granularities: list[Literal["word", "segment"]] = ["segment"]
    stream: bool = False
    prompt: str = ""
    keywords: list[str] = []
    hotwords: str = ""

    @field_validator("timestamp_granularities", "keywords", mode="before")
    @classmethod
    def _one_of_a_list(cls, value: Any) -> Any:
        """Written without the brackets of a list, it is a single one."""
        return [value] if isinstance(value, str) else value

    def check(self) -> None:
        """Refuse fields that exclude each other."""
        if "word" in self.timestamp_granularities and self.response_format != "verbose_json":
            raise ApiError(
                400,
                "timestamp_granularities: word needs the response_format verbose_json",
                "timestamp_granularities",
            )
        if self.stream and self.response_format not in ("json", "text"):
            raise ApiError(400, "stream: needs the response_format json or text", "stream")
        if not _LANGUAGE.fullmatch(self.language):
            raise ApiError(400, "language: not a code like en or zh (ISO 639-1)", "language")

    def job(self, audio: bytes, max_new_tokens: int) -> Job:
        """Words with times where the format can hold them, else the transcript alone."""
        task = "asr" if self.response_format in ("json", "text") else "srwt"
        try:
            request = make_request(task, hotwords=",".join([self.prompt, self.hotwords, *self.keywords]))
        except UserError as error:
            given = next(name for name in ("prompt", "hotwords", "keywords") if getattr(self, name))
            raise ApiError(400, f"{given}: {error}", given) from None
        sure = self.response_format == "verbose_json"
        how = sampling(max_new_tokens, temperature=self.temperature, confidence=sure)
        return Job(audio, request, how, gate=True)

    def warnings(self, response: Response | None = None) -> list[str]:
        """What a client must know: of the answer, and what of the request had no effect."""
        found = list(response.warnings) if response else []
        if self.language != "und":
            found.append(f"language {self.language}: had no effect, the model detects the language by itself")
        return found

    def headers(self, response: Response | None = None) -> dict[str, str]:
        """For formats without fields: why the answer ended, whether nobody speaks, and warnings."""
        headers = {"X-Finish-Reason": finish_reason(response)} if response else {}
        if response and response.no_speech:
            headers["X-No-Speech"] = "true"
        if warnings := "; ".join(self.warnings(response)):
            shown = json.dumps(warnings)[1:-1]  # ASCII without line breaks
            headers["X-Warnings"] = shown if len(shown) <= _HEADER else shown[:_HEADER] + "..."
        return headers

    def body(self, response: Response) -> tuple[str | dict, str]:
        """(content, media type) of the answer."""
        if self.response_format in ("srt", "vtt"):
            return write(response, self.response_format), PLAIN
        if self.response_format == "text":
            return response.text + "\n", PLAIN
        content: dict[str, Any] = {"text": response.text, **self._doubts(response)}
        if self.response_format == "verbose_json":
            content |= {"task": "transcribe", "language": self.language, "duration": response.seconds}
            if "segment" in self.timestamp_granularities:
                content["segments"] = list(self._segments(response))
            if "word" in self.timestamp_granularities:
                content["words"] = list(self._words(response))
        content["usage"] = {"type": "duration", "seconds": math.ceil(response.seconds)}
        return content, "application/json"

    def _doubts(self, response: Response) -> dict:
        return {
            "finish_reason": finish_reason(response),
            "no_speech": response.no_speech,
            "warnings": self.warnings(response),
        }

    def _segments(self, response: Response) -> Iterator[dict]:
        for n, segment in enumerate(response.segments):
            found = {
                "id": n,
                "start": segment.start,
                "end": min(segment.end, response.seconds),
                "text": segment.text,
                "temperature": self.temperature,
                "no_speech": segment.no_speech,
                "warnings": segment.warnings,
            }
            if segment.confidence is not None:  # the geometric mean of probabilities, four digits
                found["avg_logprob"] = round(math.log(max(segment.confidence, 1e-4)), 4)
            yield found

    def _words(self, response: Response) -> Iterator[dict]:
        for segment in response.segments:
            sure = segment.word_confidence or []
            known = [word.text for word in segment.words] == [text for text, _ in sure]
            for n, word in enumerate(segment.words):
                start, end = min(word.start, response.seconds), min(word.end, response.seconds)
                found = {"word": word.text, "start": start, "end": end}
                yield found | {"probability": sure[n][1]} if known else found


class TranscriptStream:
    """A transcription as server-sent events.

    Parameters
    ----------
    read : what the model wrote about one part of the recording -> its transcript.
    usage : of the whole answer.
    """

    def __init__(
        self, form: TranscriptionForm, read: Callable[[str], str], usage: Callable[[Response], dict]
    ):
        self._form, self._read, self._usage = form, read, usage
        self._texts: list[str] = []  # of the parts that are complete
        self._raw = self._sent = ""

    def begin(self) -> list[str]:
        """Events before the first piece."""
        return []

    def piece(self, piece: str) -> list[str]:
        """Events of a piece; a line break ends a part of the recording."""
        *ended, rest = piece.split("\n")
        for part in ended:
            self._texts.append(self._read(self._raw + part))
            self._raw = ""
        self._raw += rest
        return self._delta(join_text([*self._texts, self._read(_UNCLOSED.sub("", self._raw))]))

    def end(self, response: Response) -> list[str]:
        """The last events."""
        used = self._usage(response)
        usage = {
            "type": "tokens",
            "input_tokens": used["prompt_tokens"],
            "output_tokens": used["completion_tokens"],
            "total_tokens": used["total_tokens"],
            "input_token_details": {"audio_tokens": used["prompt_tokens"], "text_tokens": 0},
        }
        done = {"type": "transcript.text.done", "text": response.text, **self._form._doubts(response)}
        return [*self._delta(response.text), event(done | {"usage": usage})]

    def _delta(self, text: str) -> list[str]:
        """What is new; nothing where the reading has changed, as the last event has the whole text."""
        if len(text) <= len(self._sent) or not text.startswith(self._sent):
            return []
        new, self._sent = text[len(self._sent) :], text
        return [event({"type": "transcript.text.delta", "delta": new})]


def read_form(items: Iterable[tuple[str, str]]) -> TranscriptionForm:
    """The fields of a multipart form; the client writes a list as several fields named ``name[]``.

    An empty value is none.
    """
    values: dict[str, Any] = {}
    for written, value in items:
        name, many = written.removesuffix("[]"), written.endswith("[]")
        if name in values and not (many and isinstance(values[name], list)):
            raise ApiError(400, f"{name}: given more than once (only a list is, as {name}[])", name)
        if not value.strip():
            continue
        if many:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    form = read_model(TranscriptionForm, values)
    form.check()
    return form
