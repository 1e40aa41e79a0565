"""Wraps the application: readiness, token, slots, counters, the log, and draining of refused bodies.

Notable choices
- A request gets a slot before its body is read, and its length counts towards `Limits.total_bytes`, so that
  memory is bounded. When all slots are taken, or all bytes, the response says when to try again.
- Every POST needs a slot, whatever its path: the routes compare paths in their own way (theirs may end with
  a line break), so a check by path could be bypassed. What is refused by its head alone takes none.
- A refused body is read to its end and discarded: many clients miss an answer that is sent before. A body
  that was too slow, or is far too long, is not; then the connection ends.
- All addresses but /health require the token, if there is one.
"""

import asyncio
import hmac
import math
import time
from collections.abc import Callable

from mindspore_osum.serving.bodies import SLOW, ApiError, Limits, declared_bytes, too_long
from mindspore_osum.serving.metrics import Metrics
from mindspore_osum.serving.request_log import RequestLog

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
CHAT = "/v1/chat/completions"
OPEN = ("/health",)
PATHS = (TRANSCRIPTIONS, TRANSLATIONS, CHAT, "/v1/models", "/metrics", *OPEN)
MANY_BYTES = "the bodies that are being received fill the memory kept for them"
RETRY = "5"  # seconds, while the model is loaded
DRAINED = 4  # a refused body is read up to this multiple of the limit


class Gate:
    """An ASGI application around another.

    Parameters
    ----------
    stage : what is done before the model is ready; None when it is.
    token : what clients send as their API key; None: no key is required.
    log : gets a line for each request.
    """

    def __init__(
        self,
        app,
        metrics: Metrics,
        limits: Limits,
        stage: Callable[[], object | None],
        token: str | None = None,
        log: RequestLog | None = None,
    ):
        self.app, self.metrics, self.limits, self.stage, self.log = app, metrics, limits, stage, log
        self._bytes = 0  # of the bodies in progress, as declared
        self._expected = f"Bearer {token}".encode("ascii") if token else None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, left, draining = time.perf_counter(), None, True, False
        declared = declared_bytes(scope["headers"])
        size = declared or 0

        async def take():
            nonlocal left, size
            message = await receive()
            left = left and message.get("more_body", False)
            if declared is None and not draining:
                size += len(message.get("body", b""))
                self._bytes += len(message.get("body", b""))
                if self._bytes > self.limits.total_bytes and size < self._bytes:
                    raise self._overloaded(MANY_BYTES)
            return message

        async def answer(message):
            nonlocal status, draining
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    draining = True
                    if message["status"] != SLOW and b"expect" not in dict(scope["headers"]):
                        await self._drain(take, lambda: left, declared)
                    if left and (declared or declared is None):
                        message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
                status = message["status"]
            await send(message)

        working = scope["method"] == "POST"
        done = scope.setdefault("state", {})  # the application notes the seconds of audio here
        try:
            if refusal := self._refusal(scope, working, size):
                working, size = False, 0
                await refusal.response()(scope, take, answer)
            else:
                self.metrics.add("osum_requests_in_progress", working)
                self._bytes += size
                await self.app(scope, take, answer)
        except asyncio.CancelledError:  # the grace period is over; an answer that has begun stays incomplete
            left = False
            if status is None:
                await ApiError(503, "the server is stopping").response()(scope, take, answer)
        finally:
            self.metrics.add("osum_requests_in_progress", -working)
            self._bytes -= size
            path, seconds = scope["path"] if scope["path"] in PATHS else "other", time.perf_counter() - start
            self.metrics.add("osum_http_requests_total", path=path, status=str(status or 500))
            self.metrics.add("osum_http_request_seconds", seconds, path=path)
            if self.log:
                self.log.add(
                    scope["method"], scope["path"], status or 500, done.get("audio_seconds"), seconds
                )

    def _refusal(self, scope, working: bool, size: int) -> ApiError | None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self._expected and scope["path"] not in OPEN and not hmac.compare_digest(given, self._expected):
            return ApiError(
                401,
                "no token or a wrong one: send it as Authorization: Bearer TOKEN (the client's api_key)",
                None,
                "invalid_api_key",
                WWW_Authenticate="Bearer",
            )
        if size > self.limits.body_bytes:
            return too_long(self.limits)
        if working and (stage := self.stage()):
            what = f"the model is not ready yet ({stage}); try again in {RETRY} s"
            return ApiError(503, what, code="starting", Retry_After=RETRY)
        taken = self.metrics.value("osum_requests_in_progress")
        if working and taken >= self.limits.places:
            return self._overloaded(f"all {self.limits.places} slots are taken")
        if taken and size and self._bytes + size > self.limits.total_bytes:
            return self._overloaded(MANY_BYTES)
        return None

    def _overloaded(self, what: str) -> ApiError:
        """A refusal for now: it says when what is in progress will be answered, as far as is known."""
        taken, rows = (self.metrics.value(f"osum_{n}") for n in ("requests_in_progress", "batch_rows_total"))
        wait = math.ceil(taken * self.metrics.value("osum_compute_seconds_total") / max(1, rows))
        wait = str(min(max(wait, 1), 60))
        return ApiError(503, f"{what}; try again in {wait} s", code="overloaded", Retry_After=wait)

    async def _drain(self, take, left, declared: int | None) -> None:
        """Read the rest of a body and discard it, within limits of size and time."""
        seen, until = 0, time.monotonic() + self.limits.body_seconds
        most = DRAINED * self.limits.body_bytes
        if (declared or 0) > most:
            return
        while left() and seen < most and time.monotonic() < until:
            try:
                message = await asyncio.wait_for(take(), max(0.0, until - time.monotonic()))
            except asyncio.TimeoutError:
                return
            seen += len(message.get("body", b""))
