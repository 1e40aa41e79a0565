"""Transcriptions and translations: the form, and the answer whole, as subtitles, or piece by piece.

Notable choices
- To a model that takes no `language`, as OSUM, it cannot be given: it is echoed, and a warning says so.
- `keywords` of OpenAI's API and `hotwords` of other servers are the request's hotwords, and so is `prompt`
  where the model reads no text before a recording.
- Streamed deltas are text without tags; the event at the end has the whole text.
- Models that always give mean log-probabilities, as Whisper, are not asked how sure they are of words: so
  `verbose_json` shares batches with the other formats.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
UNKNOWN = "und"  # the language is undetermined (ISO 639-2)
PLAIN = "text/plain; charset=utf-8"


class SpeechForm(Strict):
    """The fields of translations, and of transcriptions, besides the file."""

    NEUTRAL: ClassVar[dict[str, tuple]] = {"include": (), "chunking_strategy": ("auto",)}
    TASK: ClassVar[str]

    model: str
    response_format: Literal["json", "verbose_json", "text", "srt", "vtt"] = "json"
    temperature: float = 0.0
    prompt: str = ""

    def check(self) -> None:
        """Refuse fields that exclude each other."""

    def asked(self, takes: Sequence[str]) -> dict[str, Any]:
        """What is asked beside the task, as in `make_request`, of a model that `takes` these settings."""
        return {"prompt" if "prompt" in takes else "hotwords": self.prompt}

    @property
    def granularities(self) -> list[str]:
        """What of an answer has times."""
        return ["segment"]

    def job(self, audio: bytes, max_new_tokens: int, engine) -> Job:
        """Words with times where the format can hold them, else the transcript alone.

        Parameters
        ----------
        engine : the `Engine` that will answer; what its model cannot be asked is refused.
        """
        task = "asr" if self.response_format in ("json", "text") else "srwt"
        try:
            request = make_request(task, **self.asked(engine.system.takes))
            engine.asked(request)
        except UserError as error:
            raise self._refusal(str(error)) from None
        sure = self.response_format == "verbose_json" and not engine.log_probabilities
        how = sampling(max_new_tokens, temperature=self.temperature, confidence=sure)
        return Job(audio, request, how, gate=True)

    def _refusal(self, message: str) -> ApiError:
        """A refusal that names the field it is about."""
        about = message.split()[0].strip(":")
        known = about if about in type(self).model_fields else None
        given = known or next((n for n in ("prompt", "hotwords", "keywords") if getattr(self, n, None)), None)
        if "hotword" in about and given:
            message = f"{given}: {message}"
        return ApiError(400, message, given)

    def language_of(self, response: Response, engine) -> str:
        """Of the answer, by its English name."""
        return engine.system.language_name(response.language)

    def warnings(self, response: Response | None, engine) -> list[str]:
        """What a client must know: of the answer, and what of the request had no effect."""
        return list(response.warnings) if response else []

    def headers(self, response: Response | None, engine) -> dict[str, str]:
        """For formats without fields: why the answer ended, whether nobody speaks, and warnings."""
        headers = {"X-Finish-Reason": finish_reason(response)} if response else {}
        if response and response.no_speech:
            headers["X-No-Speech"] = "true"
        if warnings := "; ".join(self.warnings(response, engine)):
            shown = json.dumps(warnings)[1:-1]  # ASCII without line breaks
            headers["X-Warnings"] = shown if len(shown) <= _HEADER else shown[:_HEADER] + "..."
        return headers

    def body(self, response: Response, engine) -> tuple[str | dict, str]:
        """(content, media type) of the answer."""
        if self.response_format in ("srt", "vtt"):
            return write(response, self.response_format), PLAIN
        if self.response_format == "text":
            return response.text + "\n", PLAIN
        content: dict[str, Any] = {"text": response.text, **self.doubts(response, engine)}
        if self.response_format == "verbose_json":
            about = {"task": self.TASK, "language": self.language_of(response, engine)}
            content |= about | {"duration": response.seconds}
            if "segment" in self.granularities:
                content["segments"] = list(self._segments(response, engine))
            if "word" in self.granularities:
                content["words"] = list(self._words(response))
        content["usage"] = {"type": "duration", "seconds": math.ceil(response.seconds)}
        return content, "application/json"

    def doubts(self, response: Response, engine) -> dict:
        """Fields that say what is doubtful."""
        return {
            "finish_reason": finish_reason(response),
            "no_speech": response.no_speech,
            "warnings": self.warnings(response, engine),
        }

    def _segments(self, response: Response, engine) -> Iterator[dict]:
        """OpenAI's fields, as far as the model gives them, and our own."""
        for n, segment in enumerate(response.segments):
            found = {
                "id": n,
                "start": segment.start,
                "end": min(segment.end, response.seconds),
                "text": segment.text,
                "temperature": self.temperature if segment.temperature is None else segment.temperature,
                "no_speech": segment.no_speech,
                "warnings": segment.warnings,
            }
            given = ("avg_logprob", "compression_ratio", "no_speech_prob")
            found |= {name: value for name in given if (value := getattr(segment, name)) is not None}
            if engine.log_probabilities:
                window = segment.start if segment.window is None else segment.window
                seek = round(window / engine.cfg.features.seconds(1))  # mel frames
                found |= {"seek": seek, "tokens": engine.tokenizer.encode(segment.text)}
            if segment.confidence is not None:  # the geometric mean of probabilities, four digits
                found.setdefault("avg_logprob", round(math.log(max(segment.confidence, 1e-4)), 4))
            yield found

    def _words(self, response: Response) -> Iterator[dict]:
        for segment in response.segments:
            sure = segment.word_confidence or []
            known = [word.text for word in segment.words] == [text for text, _ in sure]
            for n, word in enumerate(segment.words):
                start, end = min(word.start, response.seconds), min(word.end, response.seconds)
                found = {"word": word.text, "start": start, "end": end}
                yield found | {"probability": sure[n][1]} if known else found


class TranscriptionForm(SpeechForm):
    """The fields of a transcription request besides its file."""

    TASK = "transcribe"

    language: str = UNKNOWN
    timestamp_granularities: list[Literal["word", "segment"]] = ["segment"]
    stream: bool = False
    keywords: list[str] = []
    hotwords: str = ""

    @field_validator("timestamp_granularities", "keywords", mode="before")
    @classmethod
    def _one_of_a_list(cls, value: Any) -> Any:
        """Written without the brackets of a list, it is a single one."""
        return [value] if isinstance(value, str) else value

    def check(self) -> None:
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

    def asked(self, takes: Sequence[str]) -> dict[str, Any]:
        found = super().asked(takes)
        found["hotwords"] = ",".join([found.get("hotwords", ""), self.hotwords, *self.keywords])
        if "language" in takes and self.language != UNKNOWN:
            found["language"] = self.language
        if "word_times" in takes and "word" in self.granularities:
            found["word_times"] = True
        return found

    @property
    def granularities(self) -> list[str]:
        return self.timestamp_granularities

    def language_of(self, response: Response, engine) -> str:
        return super().language_of(response, engine) or self.language

    def warnings(self, response: Response | None, engine) -> list[str]:
        found = super().warnings(response, engine)
        if self.language != UNKNOWN and "language" not in engine.system.takes:
            found.append(f"language {self.language}: had no effect, the model detects the language by itself")
        return found


class TranslationForm(SpeechForm):
    """The fields of a translation request besides its file."""

    TASK = "translate"

    def asked(self, takes: Sequence[str]) -> dict[str, Any]:
        return super().asked(takes) | {"translate": True}

    def language_of(self, response: Response, engine) -> str:
        return "english"


class TranscriptStream:
    """A transcription as server-sent events.

    Parameters
    ----------
    read : what the model wrote about one part of the recording -> its transcript.
    usage : of the whole answer.
    engine : the `Engine` that answers.
    """

    def __init__(
        self, form: TranscriptionForm, read: Callable[[str], str], usage: Callable[[Response], dict], engine
    ):
        self._form, self._read, self._usage, self._engine = form, read, usage, engine
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
        done = {"type": "transcript.text.done", "text": response.text}
        done |= self._form.doubts(response, self._engine)
        return [*self._delta(response.text), event(done | {"usage": usage})]

    def _delta(self, text: str) -> list[str]:
        """What is new; nothing where the reading has changed, as the last event has the whole text."""
        if len(text) <= len(self._sent) or not text.startswith(self._sent):
            return []
        new, self._sent = text[len(self._sent) :], text
        return [event({"type": "transcript.text.delta", "delta": new})]


def read_form(items: Iterable[tuple[str, str]], kind: type[SpeechForm] = TranscriptionForm):
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
    form = read_model(kind, values)
    form.check()
    return form
