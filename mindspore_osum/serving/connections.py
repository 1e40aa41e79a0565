"""Sockets: clients that say nothing hold nothing for long, and descriptors and log lines do not run out.

Notable choices
- A client has `HEADER_SECONDS` for the head of a request, from its connection on or its first byte. Bodies
  have a limit of their own (see `bodies`). An answer is given up if a client stops taking it for
  `ANSWER_SECONDS`.
- Beyond `cap` connections the one that has been without a request for longest is closed for the new one, so
  that other clients are answered however many say nothing.
"""

import asyncio
import contextlib
import logging
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
ANSWER_SECONDS = 60.0
MOST_DESCRIPTORS = 8192
PIECE = 1 << 14  # bytes read at once: parsing 256 KiB in chunks of a byte keeps others waiting for seconds
SPARE = 128  # descriptors for files, libraries and compiling
LINES, WITHIN = 5, 10.0  # of one logger, in seconds


class Patient(H11Protocol):
    """HTTP/1.1 with limits of connections and of time for a request's head."""

    cap = 1024
    seconds = HEADER_SECONDS
    answer_seconds = ANSWER_SECONDS
    _head: asyncio.TimerHandle | None = None  # for the head of a request
    _taking: asyncio.TimerHandle | None = None  # for an answer to be taken

    def connection_made(self, transport) -> None:
        """A new connection; an older one may be closed for it."""
        self.since = time.monotonic()
        with contextlib.suppress(AttributeError):  # uvloop's transports have no such setting
            transport.max_size = PIECE
        super().connection_made(transport)
        if len(self.connections) > self.cap:
            silent = (c for c in self.connections if c.conn.their_state is h11.IDLE)
            min(silent, key=lambda c: c.since)._close()  # at least this one is silent
        self._look()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        super().data_received(data)
        self._look()

    def pause_writing(self) -> None:
        """The client takes no more of its answer for now."""
        super().pause_writing()
        self._taking = self.loop.call_later(self.answer_seconds, self._close)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._taking = _cancelled(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection."""
        self._head, self._taking = _cancelled(self._head), _cancelled(self._taking)
        super().connection_lost(exc)

    def _look(self) -> None:
        """Set the alarm while the head of a request is waited for."""
        if self.conn.their_state is not h11.IDLE:
            self._head = _cancelled(self._head)
        elif self._head is None and not self.transport.is_closing():
            self.since = time.monotonic()
            self._head = self.loop.call_later(self.seconds, self._close)

    def _close(self) -> None:
        self.connections.discard(self)
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Seldom(logging.Filter):
    """Lets `LINES` records pass within `WITHIN` seconds, and says how many were left out."""

    def __init__(self):
        super().__init__()
        self._start, self._seen = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record."""
        now = time.monotonic()
        if now - self._start > WITHIN:
            left_out, self._start, self._seen = self._seen - LINES, now, 0
            if left_out > 0:
                record.msg, record.args = f"{record.getMessage()} (and {left_out} lines before it)", ()
        self._seen += 1
        return self._seen <= LINES


def limit_connections() -> None:
    """Raise the soft limit of open files as far as it is useful, and keep `Patient.cap` below it."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    soft, hard = (
        MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft < (wanted := min(MOST_DESCRIPTORS, hard)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        soft = wanted
    Patient.cap = max(1, min(Patient.cap, soft - SPARE))


def limit_logs() -> None:
    """Show no more than a few of many lines about connections; after the loggers are set up."""
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Seldom())
