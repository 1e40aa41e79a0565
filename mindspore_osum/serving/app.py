"""The addresses of `osum serve` and what each of them answers; see `gate` for the checks before them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.serving.batcher import Batcher, Job
from mindspore_osum.serving.bodies import GONE, ApiError, Limits, read_body, read_upload
from mindspore_osum.serving.chats import ChatAnswer, ChatRequest, ChatStream
from mindspore_osum.serving.fields import event, read_json, read_model
from mindspore_osum.serving.gate import CHAT, PATHS, RETRY, TRANSCRIPTIONS, TRANSLATIONS, Gate
from mindspore_osum.serving.metrics import Metrics
from mindspore_osum.serving.request_log import RequestLog
from mindspore_osum.serving.transcriptions import (
    SpeechForm,
    TranscriptionForm,
    TranscriptStream,
    TranslationForm,
    read_form,
)

LOOK_S = 1.0  # how often to look whether the client still waits


class Api:
    """The addresses.

    Parameters
    ----------
    names : of the model for clients; the first is its own.
    """

    def __init__(self, batcher: Batcher, metrics: Metrics, names: Sequence[str], limits: Limits):
        self.batcher, self.counts, self.names, self.limits = batcher, metrics, names, limits
        self.created = int(time.time())

    async def health(self) -> Response:
        """200 as long as the model answers."""
        if not self.batcher.alive:
            return JSONResponse({"status": "the model's thread has ended"}, 503)
        if not (stage := self.batcher.stage):
            return JSONResponse({"status": "ready"})
        progress = {"stage": stage.name, "done": stage.done, "total": stage.total}
        return JSONResponse({"status": "starting"} | progress, 503, {"Retry-After": RETRY})

    async def metrics(self) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self.counts.text(), headers={"Content-Type": Metrics.CONTENT_TYPE})

    async def models(self) -> dict:
        """The one model, by all of its names."""
        return {"object": "list", "data": [await self.model(name) for name in self.names]}

    async def model(self, name: str) -> dict:
        """The model by one of its names."""
        self._check_model(name)
        return {"id": name, "object": "model", "created": self.created, "owned_by": "osum"}

    async def transcriptions(self, request: Request) -> Response:
        """A recording -> text, words with times, or subtitles."""
        return await self._written(request, TranscriptionForm)

    async def translations(self, request: Request) -> Response:
        """A recording -> the same in English, from a model that translates."""
        if "translate" not in self.batcher.engine.system.takes:
            raise ApiError(
                400,
                f"this model transcribes and does not translate; ask at {TRANSCRIPTIONS}",
                "model",
                "unsupported",
            )
        return await self._written(request, TranslationForm)

    async def _written(self, request: Request, kind: type[SpeechForm]) -> Response:
        """A recording -> what a form of this kind asks for."""
        fields, audio = await read_upload(request, self.limits)
        form, engine = read_form(fields, kind), self.batcher.engine
        self._check_model(form.model)
        job = form.job(audio, self.limits.max_new_tokens, engine)
        if getattr(form, "stream", False):
            writer = TranscriptStream(
                form,
                lambda raw: engine.system.answer(raw, job.request.task).text,
                partial(self._usage, job),
                engine,
            )
            return await self._streamed(request, job, writer, form.headers(None, engine))
        response = await self._answered(request, job)
        content, media_type = form.body(response, engine)
        headers = form.headers(response, engine)  # text and subtitles have no fields
        if isinstance(content, dict):
            return JSONResponse(content, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    async def chat(self, request: Request) -> Response:
        """A recording and words about it -> what the model writes, at once or piece by piece."""
        # base64 of minutes takes a while; neither body nor base64 is kept while the recording waits
        chat = await run_in_threadpool(
            _read_chat, b"".join([part async for part in read_body(request, self.limits)])
        )
        self._check_model(chat.model)
        job = await run_in_threadpool(chat.job, self.limits.max_new_tokens)
        self.batcher.engine.asked(job.request)
        chat.messages.clear()
        if chat.stream:
            return await self._streamed(request, job, ChatStream(chat, partial(self._usage, job)))
        response = await self._answered(request, job)
        return JSONResponse(ChatAnswer(chat.model).whole(response, self._usage(job, response)))

    async def _streamed(self, request: Request, job: Job, writer, headers: dict | None = None) -> Response:
        """The answer as server-sent events, which `writer` makes of pieces and of the response."""
        pieces, loop, first = asyncio.Queue(), asyncio.get_running_loop(), None

        def put(piece: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped meanwhile
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        job.on_piece = put
        job.future.add_done_callback(lambda _: put(None))
        self.batcher.submit(job)
        try:
            first = await _unless_gone(request, asyncio.ensure_future(pieces.get()))
        finally:
            if first is None:  # the client has disconnected, the server stops, or the answer is complete
                job.future.cancel()
        if first is None and job.future.exception():  # nothing sent: an error can be a status
            raise job.future.exception()
        return StreamingResponse(
            self._events(request, writer, job, first, pieces),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache"} | (headers or {}),
        )

    async def _events(
        self, request: Request, writer, job: Job, piece: str | None, pieces
    ) -> AsyncIterator[str]:
        try:
            for line in writer.begin():
                yield line
            while piece is not None:
                for line in writer.piece(piece):
                    yield line
                piece = await pieces.get()
            if job.future.exception():
                yield event(_as_api_error(job.future.exception()).body())
                return
            response = _noted(request, job.future.result())
            for line in writer.end(response):
                yield line
        finally:
            job.future.cancel()  # the client has disconnected

    async def _answered(self, request: Request, job: Job):
        """The job's response; the job is cancelled when the client disconnects."""
        self.batcher.submit(job)
        return _noted(request, await _unless_gone(request, asyncio.wrap_future(job.future)))

    def _check_model(self, name: str) -> None:
        if name not in self.names:
            hint = did_you_mean(name, self.names)
            raise ApiError(404, f"model {name!r}: not the one served here{hint}", "model", "model_not_found")

    def _usage(self, job: Job, response) -> dict:
        """Tokens of what was said, without the fixed text around it, of the recording, and of the answer."""
        engine = self.batcher.engine
        cfg, heard = engine.cfg.features, response.segments if job.audio is not None else []
        lengths = [max(s.seconds, cfg.pad_to_seconds) for s in heard if not s.no_speech]
        samples = [round(seconds * cfg.sample_rate) for seconds in lengths]
        audio = sum(engine.cfg.tokens(cfg.frames(n)) for n in samples)
        prompt, asked = audio, engine.asked(job.request)
        said = [asked.system, *(text for turn in asked.history for text in (turn.words, turn.reply))]
        if "request" in engine.template.needs(asked.output_type):
            words = asked.words
            if asked.hotwords:
                words = engine.system.with_hotwords(words, asked.task, asked.hotwords)
            said.append(words)
        prompt += sum(len(engine.tokenizer.encode(words)) for words in said if words)
        written = len(engine.tokenizer.encode(response.raw))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"audio_tokens": audio, "cached_tokens": 0},
        }


def create_app(
    batcher: Batcher,
    metrics: Metrics,
    names: Sequence[str],
    limits: Limits,
    token: str | None = None,
    *,
    origins: Sequence[str] = (),
    log: RequestLog | None = None,
):
    """The application, for uvicorn or any other ASGI server.

    Parameters
    ----------
    names : of the model; every request must give one of them.
    token : see `Gate`.
    origins : of web pages that may ask from a browser; "*" for all.
    log : gets a line for each request.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api = Api(batcher, metrics, names, limits)
    for method, path, endpoint in (
        ("GET", "/health", api.health),
        ("GET", "/metrics", api.metrics),
        ("GET", "/v1/models", api.models),
        ("GET", "/v1/models/{name:path}", api.model),
        ("POST", TRANSCRIPTIONS, api.transcriptions),
        ("POST", TRANSLATIONS, api.translations),
        ("POST", CHAT, api.chat),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    for kind in (ApiError, UserError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    gate = Gate(app, metrics, limits, lambda: batcher.stage, token, log)
    if not origins:
        return gate
    return CORSMiddleware(  # outside of the gate: a browser asks without a token first
        gate,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=("Retry-After", "X-Finish-Reason", "X-No-Speech", "X-Warnings"),
    )


def _read_chat(body: bytes) -> ChatRequest:
    return read_model(ChatRequest, read_json(body))


def _noted(request: Request, response):
    """The response; its seconds are noted for the log."""
    request.scope["state"]["audio_seconds"] = response.seconds or None
    return response


async def _unless_gone(request: Request, waiting: asyncio.Future):
    """Await it; it is cancelled when the client disconnects."""
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                raise ApiError(GONE, "the client has gone")
        return waiting.result()
    finally:
        waiting.cancel()


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        asked, known = f"{request.method} {request.url.path}", ", ".join(PATHS)
        error = ApiError(error.status_code, f"{asked}: {error.detail}; known are {known}")
    return _as_api_error(error).response()


def _as_api_error(error: BaseException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    return ApiError(500, "the server failed; its log says why")
