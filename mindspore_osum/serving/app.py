"""The addresses of `osum serve` and what each of them answers; see `gate` for the checks before them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.serving.batcher import Batcher, Job
from mindspore_osum.serving.bodies import GONE, ApiError, Limits, read_body, read_upload
from mindspore_osum.serving.gate import CHAT, PATHS, TRANSCRIPTIONS, Gate
from mindspore_osum.serving.metrics import Metrics
from mindspore_osum.serving.schemas import (
    ChatAnswer,
    ChatRequest,
    event,
    finish_reason,
    read_form,
    read_json,
    read_model,
)

LOOK_S = 1.0  # how often to look whether the client still waits


class Api:
    """The addresses."""

    def __init__(self, batcher: Batcher, metrics: Metrics, name: str, limits: Limits):
        self.batcher, self.counts, self.name, self.limits = batcher, metrics, name, limits
        self.created = int(time.time())

    async def health(self) -> Response:
        """200 as long as the model answers."""
        if self.batcher.alive:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the model's thread has ended"}, 503)

    async def metrics(self) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self.counts.text(), headers={"Content-Type": Metrics.CONTENT_TYPE})

    async def models(self) -> dict:
        """The one model."""
        return {"object": "list", "data": [await self.model(self.name)]}

    async def model(self, name: str) -> dict:
        """The model by its name."""
        self._check_model(name)
        return {"id": name, "object": "model", "created": self.created, "owned_by": "osum"}

    async def transcriptions(self, request: Request) -> Response:
        """A recording -> text, words with times, or subtitles."""
        fields, audio = await read_upload(request, self.limits)
        form = read_form(fields)
        self._check_model(form.model)
        job = form.job(audio, self.limits.max_new_tokens)
        response = await self._answered(request, job)
        content, media_type = form.body(response)
        headers = {"X-Finish-Reason": finish_reason(response)}  # text and subtitles have no field for it
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
        chat.messages.clear()
        if chat.stream:
            return await self._streamed(request, chat, job)
        response = await self._answered(request, job)
        return JSONResponse(ChatAnswer(self.name).whole(response, self._usage(job, response)))

    async def _streamed(self, request: Request, chat: ChatRequest, job: Job) -> Response:
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
            self._events(chat, job, first, pieces),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache"},
        )

    async def _events(self, chat: ChatRequest, job: Job, piece: str | None, pieces) -> AsyncIterator[str]:
        answer = ChatAnswer(self.name)
        try:
            yield event(answer.piece({"role": "assistant", "content": ""}))
            while piece is not None:
                yield event(answer.piece({"content": piece}))
                piece = await pieces.get()
            if job.future.exception():
                yield event(_as_api_error(job.future.exception()).body())
                return
            response = job.future.result()
            yield event(answer.end(response))
            if chat.stream_options and chat.stream_options.include_usage:
                yield event(answer.usage(self._usage(job, response)))
            yield event("[DONE]")
        finally:
            job.future.cancel()  # the client has disconnected

    async def _answered(self, request: Request, job: Job):
        """The job's response; the job is cancelled when the client disconnects."""
        self.batcher.submit(job)
        return await _unless_gone(request, asyncio.wrap_future(job.future))

    def _check_model(self, name: str) -> None:
        if name != self.name:
            hint = did_you_mean(name, [self.name])
            raise ApiError(404, f"model {name!r}: not the one served here{hint}", "model", "model_not_found")

    def _usage(self, job: Job, response) -> dict:
        """Tokens of the user's words and recording, without the fixed text around them, and of the answer."""
        engine = self.batcher.engine
        cfg, heard = engine.cfg.features, response.segments if job.audio is not None else []
        samples = [round(max(s.seconds, cfg.pad_to_seconds) * cfg.sample_rate) for s in heard]
        audio = sum(engine.cfg.tokens(cfg.frames(n)) for n in samples)
        has_words = "request" in engine.template.needs(job.request.output_type)
        prompt = audio + (len(engine.tokenizer.encode(job.request.words)) if has_words else 0)
        written = len(engine.tokenizer.encode(response.raw))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"audio_tokens": audio, "cached_tokens": 0},
        }


def create_app(batcher: Batcher, metrics: Metrics, name: str, limits: Limits, token: str | None) -> Gate:
    """The application, for uvicorn or any other ASGI server.

    Parameters
    ----------
    name : of the model; every request must give it.
    token : see `Gate`.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api = Api(batcher, metrics, name, limits)
    for method, path, endpoint in (
        ("GET", "/health", api.health),
        ("GET", "/metrics", api.metrics),
        ("GET", "/v1/models", api.models),
        ("GET", "/v1/models/{name:path}", api.model),
        ("POST", TRANSCRIPTIONS, api.transcriptions),
        ("POST", CHAT, api.chat),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    for kind in (ApiError, UserError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    return Gate(app, metrics, limits, token)


def _read_chat(body: bytes) -> ChatRequest:
    return read_model(ChatRequest, read_json(body))


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
