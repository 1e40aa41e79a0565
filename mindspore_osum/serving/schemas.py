"""Requests and answers: the parts of OpenAI's API that the model supports; nothing is silently ignored.

Notable choices
- An unknown or unsupported field is refused by its name. Fields without effect (user, metadata, store)
  are accepted, and so is `language`: it is only echoed, as the model detects the language by itself.
- `content` of a chat is what the model wrote, tags included, whether streamed or not; the parsed answer
  is beside it as `osum`.
"""

import base64
import binascii
import json
import math
import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response
from mindspore_osum.serving.batcher import Job
from mindspore_osum.serving.bodies import ApiError
from mindspore_osum.subtitles import write
from mindspore_osum.tasks import TEXT2TEXT

MAX_WORDS = 20_000  # characters of a text part; no prompt holds more
MAX_VALUES = 100_000  # of a JSON body; parsed they take far more memory than as text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TranscriptionForm(_Strict):
    """The fields of a transcription request besides its file."""

    model: str
    response_format: Literal["json", "verbose_json", "text", "srt", "vtt"] = "json"
    language: str = "und"  # undetermined (ISO 639-2)
    temperature: float = 0.0
    timestamp_granularities: list[Literal["word", "segment"]] = ["segment"]

    def job(self, audio: bytes, max_new_tokens: int) -> Job:
        """Words with times where the format can hold them, else the transcript alone."""
        task = "asr" if self.response_format in ("json", "text") else "srwt"
        return Job(audio, make_request(task), _sampling(max_new_tokens, temperature=self.temperature))

    def body(self, response: Response) -> tuple[str | dict, str]:
        """(content, media type) of the answer."""
        if self.response_format in ("srt", "vtt"):
            return write(response, self.response_format), "text/plain; charset=utf-8"
        if self.response_format == "text":
            return response.text + "\n", "text/plain; charset=utf-8"
        content: dict[str, Any] = {"text": response.text, "finish_reason": finish_reason(response)}
        if self.response_format == "verbose_json":
            content |= {"task": "transcribe", "language": self.language, "duration": response.seconds}
            if "segment" in self.timestamp_granularities:
                content["segments"] = [
                    {"id": n, "start": s.start, "end": s.end, "text": s.text, "temperature": self.temperature}
                    for n, s in enumerate(response.segments)
                ]
            if "word" in self.timestamp_granularities:
                content["words"] = [{"word": w.text, "start": w.start, "end": w.end} for w in response.words]
        content["usage"] = {"type": "duration", "seconds": math.ceil(response.seconds)}
        return content, "application/json"


class InputAudio(_Strict):
    """A recording in base64; its format is detected from its bytes."""

    data: str
    format: Literal["wav", "mp3", "flac", "ogg", "opus"]


class AudioPart(_Strict):
    """A part of a message that is sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class TextPart(_Strict):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_WORDS)


class Message(_Strict):
    """A message of the user."""

    role: Literal["user"]  # the model's system text is fixed, and it takes one turn
    content: (
        Annotated[str, Field(max_length=MAX_WORDS)]
        | list[Annotated[AudioPart | TextPart, Field(discriminator="type")]]
    )
    name: str | None = None


class StreamOptions(_Strict):
    """How to stream."""

    include_usage: bool = False


class ChatRequest(_Strict):
    """A chat completion. Temperature 0, greedy, is the default; top_k and repetition_penalty are our own."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    modalities: list[Literal["text"]] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None

    def job(self, max_new_tokens: int) -> Job:
        """The one recording with the words about it; alone it is spoken chat, words alone are a chat."""
        content = self.messages[0].content
        parts = [TextPart(type="text", text=content)] if isinstance(content, str) else content
        words = " ".join(part.text.strip() for part in parts if isinstance(part, TextPart)).strip()
        sounds = [part.input_audio.data for part in parts if isinstance(part, AudioPart)]
        if len(sounds) > 1 or not sounds and not words:
            raise ApiError(
                400,
                f"{len(sounds)} recordings and {len(words)} characters of text: give one "
                "input_audio part, text, or both",
                "messages",
            )
        request = make_request("sttc") if not words else make_request(instruction=words)
        if not sounds:
            request = Request(words, "text2text", TEXT2TEXT)
        asked = {"top_k", "top_p", "temperature", "repetition_penalty", "seed"}
        settings = self.model_dump(include=asked, exclude_none=True)
        limits = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        sampling = _sampling(min([max_new_tokens, *limits]), **settings)
        return Job(_decoded(sounds[0]) if sounds else None, request, sampling)


class ChatAnswer:
    """The forms of one chat's answer."""

    def __init__(self, model: str):
        self._id, self._created, self._model = f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), model

    def whole(self, response: Response, usage: dict) -> dict:
        """All at once."""
        message = {"role": "assistant", "content": response.raw, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(response), "logprobs": None}
        return self._object("chat.completion", [choice], usage=usage, osum=parts(response))

    def piece(self, delta: dict) -> dict:
        """A piece of the message."""
        return self._chunk(delta, None)

    def end(self, response: Response) -> dict:
        """The last piece: why the answer ended, and the whole answer parsed."""
        return self._chunk({}, finish_reason(response)) | {"osum": parts(response)}

    def usage(self, usage: dict) -> dict:
        """The piece without a message."""
        return self._object("chat.completion.chunk", [], usage=usage)

    def _chunk(self, delta: dict, finish: str | None) -> dict:
        return self._object(
            "chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        )

    def _object(self, kind: str, choices: list, **more) -> dict:
        head = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return head | {"choices": choices} | more


def parts(response: Response) -> dict:
    """The parsed answer: text, labels, words, segments (see `results.Response`)."""
    return {name: x for name, x in response.to_dict().items() if name not in ("audio", "raw", "rtf")}


def read_model(kind: type[BaseModel], values: Any):
    """The request, or an ApiError that names the field."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = "not a field of this server" if first["type"] == "extra_forbidden" else first["msg"]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ApiError(400, f"{place or 'body'}: {what}{more}", place or None) from None


def read_json(body: bytes):
    """The JSON of a body."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:  # none of them is in base64
        raise ApiError(400, f"the body is JSON of more than {MAX_VALUES} values; a chat has a few")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise ApiError(400, "the body is not JSON in UTF-8") from None


def event(data: dict | str) -> str:
    """A server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n"


def read_form(items: Iterable[tuple[str, str]]) -> TranscriptionForm:
    """The fields of a multipart form; the client writes a list as several fields named ``name[]``."""
    values: dict[str, Any] = {}
    for written, value in items:
        name, many = written.removesuffix("[]"), written.endswith("[]")
        if name in values and not (many and isinstance(values[name], list)):
            raise ApiError(400, f"{name}: given more than once (only a list is, as {name}[])", name)
        if many:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return read_model(TranscriptionForm, values)


def _sampling(max_new_tokens: int, **settings) -> Sampling:
    try:
        return Sampling(max_new_tokens=max_new_tokens, **settings)
    except UserError as error:
        raise ApiError(400, str(error), str(error).split()[0]) from None


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "input_audio.data: not base64 (RFC 4648)", "messages") from None


def finish_reason(response: Response) -> str:
    """Why the answer ended: at its limit, or by itself."""
    return "length" if response.cut else "stop"
