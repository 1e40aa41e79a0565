"""Request bodies: read within limits, forms in memory; and errors in OpenAI's form."""

import asyncio
import codecs
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import JSONResponse

from mindspore_osum.errors import NAME, one_line

FORM_FIELDS, FORM_FIELD_BYTES = 32, 1 << 16
GONE = 499  # as nginx calls it: the client did not wait for its answer
SLOW = 408  # its body did not arrive in time


@dataclass(frozen=True)
class Limits:
    """What one request may be.

    Attributes
    ----------
    body_bytes : longest body.
    total_bytes : of all bodies in progress; one alone is always taken.
    body_seconds : time for a client to send it.
    places : maximum number of requests at once.
    max_new_tokens : longest answer to a recording, or a chunk of it.
    """

    body_bytes: int = 32 << 20
    total_bytes: int = 2 << 30
    body_seconds: float = 60.0
    places: int = 64
    max_new_tokens: int = 400


class ApiError(Exception):
    """A refusal in OpenAI's form."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, **headers: str
    ):
        super().__init__(one_line(message))  # what a client sent is repeated to it, but not all of 30 MB
        self.status, self.param, self.code = status, param and one_line(param, NAME), code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict:
        """The JSON of it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def too_long(limits: Limits) -> ApiError:
    """The refusal of a body that is longer than allowed."""
    return ApiError(413, f"the body is longer than the {limits.body_bytes} bytes this server takes")


def declared_bytes(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Length of a body as its headers declare it; None if it comes in chunks, as long as it likes."""
    found = dict(headers)
    if b"transfer-encoding" in found:
        return None
    return int(found.get(b"content-length", 0))


async def read_body(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """Read the body piece by piece, within its limits of size and time."""
    seen, until, more = 0, time.monotonic() + limits.body_seconds, True
    while more:
        try:
            message = await asyncio.wait_for(request.receive(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            raise ApiError(SLOW, f"the body did not come within {limits.body_seconds:g} s") from None
        if message["type"] == "http.disconnect":
            raise ApiError(GONE, "the client has gone")
        part, more = message.get("body", b""), message.get("more_body", False)
        seen += len(part)
        if seen > limits.body_bytes:
            raise too_long(limits)
        yield part


async def read_upload(request: Request, limits: Limits) -> tuple[list[tuple[str, str]], bytes]:
    """(fields, bytes of the one file, named "file") of a multipart form; nothing goes to disk."""
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind.strip() != b"multipart/form-data":
        raise ApiError(400, "the body must be multipart/form-data with the fields file and model")
    if not _is_utf8(options.get(b"charset", b"utf-8")):
        raise ApiError(400, "charset: send the form as UTF-8")
    parser = MultiPartParser(
        request.headers,
        read_body(request, limits),
        max_files=1,
        max_fields=FORM_FIELDS,
        max_part_size=FORM_FIELD_BYTES,
    )
    parser.spool_max_size = limits.body_bytes + 1  # a larger file would go to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"the form cannot be read: {error.message}") from None
    fields = [item for item in form.multi_items() if isinstance(item[1], str)]
    files = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
    if [name for name, _ in files] != ["file"]:
        raise ApiError(400, "file: give the recording as the one file of the form, named file", "file")
    ((_, file),) = files
    audio = await file.read()
    await file.close()
    return fields, audio


def _is_utf8(charset: bytes) -> bool:
    """Whether a text in this charset is read right as UTF-8."""
    try:
        return codecs.lookup(charset.decode("latin-1")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):  # no such charset, or no name of one
        return False
