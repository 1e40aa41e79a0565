"""The log of requests: a line for each, without its content."""

import logging
import logging.handlers
import sys
import time

from mindspore_osum.errors import UserError

_PATH = 80  # longest path shown, in characters


class RequestLog:
    """A line for each request: time (UTC), method, path, status, seconds of audio, milliseconds.

    Parameters
    ----------
    file : where lines are appended, also after the file was moved away; "-" is standard error.

    Raises
    ------
    UserError : the file cannot be opened.
    """

    def __init__(self, file: str):
        try:
            self._handler = (
                logging.StreamHandler(sys.stderr)
                if file == "-"
                else logging.handlers.WatchedFileHandler(file, encoding="utf-8")
            )
        except OSError as error:
            raise UserError(f"--log-requests {file}: cannot write it ({error.strerror})") from None
        self._handler.handleError = lambda record: None  # a full disk stops no request
        clock = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        clock.converter = time.gmtime
        self._handler.setFormatter(clock)

    def add(self, method: str, path: str, status: int, audio: float | None, seconds: float) -> None:
        """Write a line; `audio` is None where no recording was answered."""
        path = path if len(path) <= _PATH else path[:_PATH] + "..."
        path = (
            path.encode("unicode_escape").decode("ascii").replace(" ", "\\x20")
        )  # one word of visible ASCII
        heard = "-" if audio is None else f"{audio:.2f} s"
        line = f"{method} {path} {status} {heard} {seconds * 1000:.0f} ms"
        self._handler.handle(logging.makeLogRecord({"msg": line}))
