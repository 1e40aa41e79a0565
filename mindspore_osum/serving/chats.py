"""Chats: a recording and words about it; the answer whole or piece by piece.

Notable choices
- Earlier turns and a system message are laid out before the last message as the model's template says; one
  recording in all, in any of the user's messages (`inference.conversation`).
- `content` of an answer is what the model wrote, tags included, whether streamed or not; the parsed answer
  is beside it as `osum`.
- A recording's format is seen from its bytes; the name that a client gives is checked, but decides nothing.
"""

import base64
import binascii
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Said, conversation
from mindspore_osum.inference.request import make_request
from mindspore_osum.results import Response
from mindspore_osum.serving.batcher import Job
from mindspore_osum.serving.bodies import ApiError
from mindspore_osum.serving.fields import Strict, event, finish_reason, sampling
from mindspore_osum.speech.audio import READABLE
from mindspore_osum.tasks import TEXT2TEXT

MAX_WORDS = 20_000  # characters of a text part
MAX_CONVERSATION = 200_000  # characters of all messages; no prompt holds more
MPEG_NAMES = ("mpeg", "mpga")  # OpenAI's for mp3


class InputAudio(Strict):
    """A recording in base64."""

    data: str
    format: str

    @field_validator("format")
    @classmethod
    def _is_readable(cls, name: str) -> str:
        if name.lower() not in (*READABLE, *MPEG_NAMES):
            usual = ", ".join(READABLE[:12])
            raise PydanticCustomError(
                "format", "not a format that is read here ({usual}, ...)", {"usual": usual}
            )
        return name


class Part(Strict):
    """A part of a message: sound or text, as its type says."""

    type: Literal["input_audio", "text"]
    input_audio: InputAudio | None = None
    text: str | None = Field(None, max_length=MAX_WORDS)

    @model_validator(mode="before")
    @classmethod
    def _is_here(cls, values: Any) -> Any:
        if isinstance(values, dict) and str(values.get("type")).endswith("_url"):
            raise PydanticCustomError(
                "address",
                "{type}: addresses are not fetched; send the recording itself as input_audio, in base64",
                {"type": values["type"]},
            )
        return values


class Message(Strict):
    """A message; `conversation` says which order they have."""

    NEUTRAL: ClassVar[dict[str, tuple]] = {"tool_calls": ([],)}

    role: Literal["user", "system", "developer", "assistant"]
    content: list[Part] = []
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def words(self) -> str:
        """All texts."""
        return " ".join(part.text.strip() for part in self.content if part.text).strip()

    @property
    def sounds(self) -> dict[int, str]:
        """Number of the part -> recording in base64."""
        return {n: part.input_audio.data for n, part in enumerate(self.content) if part.input_audio}


class StreamOptions(Strict):
    """How to stream."""

    NEUTRAL: ClassVar[dict[str, tuple]] = {"include_obfuscation": (False,)}

    include_usage: bool = False


class ChatRequest(Strict):
    """A chat completion. Temperature 0, greedy, is the default.

    Our own are top_k, repetition_penalty, and hotwords, names and terms that may be said.
    """

    NEUTRAL: ClassVar[dict[str, tuple]] = {
        "n": (1,),
        "stop": ([], ""),
        "modalities": (["text"],),
        "response_format": ({"type": "text"},),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "logit_bias": ({},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "reasoning_effort": ("none",),
        "service_tier": ("auto", "default"),
    }

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    hotwords: str | list[str] = []
    # they are for the books of whoever asks, and change no answer
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def job(self, max_new_tokens: int) -> Job:
        """The one recording with the words about it; alone it is spoken chat, words alone are a chat."""
        self._check_parts()
        system, history, last = self._conversation()
        sounds = {
            f"messages.{number}.content.{n}.input_audio.data": data
            for number, message in enumerate(self.messages)
            for n, data in message.sounds.items()
        }
        words = last.words or None
        if (long := sum(map(len, self.hotwords))) > MAX_WORDS:  # of a text or of a list
            raise ApiError(400, f"hotwords: {long} characters, at most {MAX_WORDS} are read", "hotwords")
        request = make_request(None if words else "sttc", words, self.hotwords)
        if not sounds and request.hotwords:
            raise ApiError(400, "hotwords: they are for recordings; here are only words", "hotwords")
        if not last.recordings:  # what is heard in an earlier turn may be asked for with tags, too
            request = replace(request, output_type="text2text", task=None if sounds else TEXT2TEXT)
        request = replace(request, system=system, history=history)
        asked = {"top_k", "top_p", "temperature", "repetition_penalty", "seed"}
        settings = self.model_dump(include=asked, exclude_none=True)
        limits = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        how = sampling(min([max_new_tokens, *limits]), **settings)
        audio = [_decoded(data, place) for place, data in sounds.items()]
        return Job(audio[0] if audio else None, request, how)

    def _conversation(self):
        """System text, earlier turns, and the last message."""
        said = [Said(m.role, m.words, len(m.sounds)) for m in self.messages]
        if (long := sum(len(one.words) for one in said)) > MAX_CONVERSATION:
            what = f"messages: {long} characters, at most {MAX_CONVERSATION} are read; leave out the oldest"
            raise ApiError(400, what, "messages")
        try:
            system, history, last = conversation(said)
        except UserError as error:
            raise ApiError(400, str(error), str(error).split(":")[0]) from None
        if last is None:
            place = f"messages.{len(said) - 1}.role"
            raise ApiError(400, f"{place}: {said[-1].role!r}: the last message is the user's", place)
        return system, history, last

    def _check_parts(self) -> None:
        """Refuse parts with another field than that of their type."""
        for number, message in enumerate(self.messages):
            for n, part in enumerate(message.content):
                given = [name for name in ("input_audio", "text") if getattr(part, name) is not None]
                if given != [part.type]:
                    place = f"messages.{number}.content.{n}"
                    raise ApiError(
                        400, f"{place}: a part of type {part.type} has the field {part.type}", place
                    )


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


class ChatStream:
    """A chat's answer as server-sent events.

    Parameters
    ----------
    usage : of the whole answer.
    """

    def __init__(self, chat: ChatRequest, usage: Callable[[Response], dict]):
        self._answer, self._usage = ChatAnswer(chat.model), usage
        self._with_usage = bool(chat.stream_options and chat.stream_options.include_usage)

    def begin(self) -> list[str]:
        """Events before the first piece."""
        return [event(self._answer.piece({"role": "assistant", "content": ""}))]

    def piece(self, piece: str) -> list[str]:
        """Events of a piece."""
        return [event(self._answer.piece({"content": piece}))]

    def end(self, response: Response) -> list[str]:
        """The last events."""
        usage = [event(self._answer.usage(self._usage(response)))] if self._with_usage else []
        return [event(self._answer.end(response)), *usage, event("[DONE]")]


def parts(response: Response) -> dict:
    """The parsed answer: text, labels, words, segments (see `results.Response`)."""
    return {name: x for name, x in response.to_dict().items() if name not in ("audio", "raw", "rtf")}


def _decoded(data: str, place: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{place}: not base64 (RFC 4648)", place) from None
