"""Wraps the application: token, slots, counters, and draining of refused bodies.

Notable choices
- A request gets a slot before its body is read, so that memory is bounded by slots times the longest
  body; when all slots are taken the response says when to try again.
- Every POST needs a slot, whatever its path: the routes compare paths in their own way (theirs may end with
  a line break), so a check by path could be bypassed.
- A refused body is read to its end and discarded: many clients miss an answer that is sent before. A body
  that was too slow is not.
- All addresses but /health require the token, if there is one.
"""

import asyncio
import hmac
import math
import time

from mindspore_osum.serving.bodies import SLOW, ApiError, Limits
from mindspore_osum.serving.metrics import Metrics

TRANSCRIPTIONS, CHAT = "/v1/audio/transcriptions", "/v1/chat/completions"
OPEN = ("/health",)
PATHS = (TRANSCRIPTIONS, CHAT, "/v1/models", "/metrics", *OPEN)
DRAINED = 4  # a refused body is read up to this multiple of the limit


class Gate:
    """An ASGI application around another.

    Parameters
    ----------
    token : what clients send as their API key; None: no key is required.
    """

    def __init__(self, app, metrics: Metrics, limits: Limits, token: str | None):
        self.app, self.metrics, self.limits = app, metrics, limits
        self._expected = f"Bearer {token}".encode("ascii") if token else None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, left = time.perf_counter(), None, True

        async def take():
            nonlocal left
            message = await receive()
            left = left and message.get("more_body", False)
            return message

        async def answer(message):
            nonlocal status
            if message["type"] == "http.response.start":
                refused = message["status"] >= 400 and message["status"] != SLOW
                if refused and b"expect" not in dict(scope["headers"]):
                    await self._drain(take, lambda: left)
                status = message["status"]
            await send(message)

        working = scope["method"] == "POST"
        try:
            if refusal := self._refusal(scope, working):
                working = False
                await refusal.response()(scope, take, answer)
            else:
                self.metrics.add("osum_requests_in_progress", working)
                await self.app(scope, take, answer)
        except asyncio.CancelledError:  # the grace period is over; an answer that has begun stays incomplete
            left = False
            if status is None:
                await ApiError(503, "the server is stopping").response()(scope, take, answer)
        finally:
            self.metrics.add("osum_requests_in_progress", -working)
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.metrics.add("osum_http_requests_total", path=path, status=str(status or 500))
            self.metrics.add("osum_http_request_seconds", time.perf_counter() - start, path=path)

    def _refusal(self, scope, working: bool) -> ApiError | None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self._expected and scope["path"] not in OPEN and not hmac.compare_digest(given, self._expected):
            return ApiError(
                401,
                "no token or a wrong one: send it as Authorization: Bearer TOKEN (the client's api_key)",
                None,
                "invalid_api_key",
                WWW_Authenticate="Bearer",
            )
        taken = self.metrics.value("osum_requests_in_progress")
        if working and taken >= self.limits.places:
            rows = max(1, self.metrics.value("osum_batch_rows_total"))
            wait = math.ceil(taken * self.metrics.value("osum_compute_seconds_total") / rows)
            wait = str(min(max(wait, 1), 60))
            return ApiError(
                503,
                f"all {self.limits.places} slots are taken; try again in {wait} s",
                code="overloaded",
                Retry_After=wait,
            )
        return None

    async def _drain(self, take, left) -> None:
        """Read the rest of a body and discard it, within limits of size and time."""
        seen, until = 0, time.monotonic() + self.limits.body_seconds
        while left() and seen < DRAINED * self.limits.body_bytes and time.monotonic() < until:
            try:
                message = await asyncio.wait_for(take(), max(0.0, until - time.monotonic()))
            except asyncio.TimeoutError:
                return
            seen += len(message.get("body", b""))
