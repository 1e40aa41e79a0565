"""Uploads: in memory only, and not for ever."""

import asyncio
import os
import sys
import tempfile

import pytest

starlette = pytest.importorskip("starlette.requests", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.bodies import ApiError, Limits, read_body, read_upload  # noqa: E402

_written: list | None = None  # paths opened for writing, while somebody looks


def _hook(name, args):
    if _written is not None and name == "open" and args[2] & (os.O_WRONLY | os.O_RDWR):
        _written.append(args[0])


sys.addaudithook(_hook)


@pytest.fixture
def written():
    """What is opened for writing during a test."""
    global _written
    _written = []
    yield _written
    _written = None


def request(parts: list[bytes], content_type: str = "application/json", endless: bool = False):
    """A request whose body comes in these parts, and then, if `endless`, nothing any more."""
    waiting = list(parts)

    async def receive():
        if waiting:
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": endless or bool(waiting)}
        await asyncio.Event().wait()

    headers = [(b"content-type", content_type.encode())]
    return starlette.Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def form(data: bytes) -> bytes:
    head = '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--x\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head.encode() + data + b"\r\n--x--\r\n"


def test_large_uploads_stay_in_memory(written):
    data = os.urandom(5 << 20)
    body = form(data)
    parts = [body[i : i + 65536] for i in range(0, len(body), 65536)]
    fields, audio = asyncio.run(read_upload(request(parts, "multipart/form-data; boundary=x"), Limits()))
    assert fields == [("model", "tiny")] and audio == data
    assert written == []
    with tempfile.SpooledTemporaryFile(max_size=1) as file:  # what would be seen
        file.write(b"xx")
    assert written


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: a\r\n\r\n1\r\n--x--"])
def test_broken_forms(body):
    with pytest.raises(ApiError) as caught:
        asyncio.run(read_upload(request([body], "multipart/form-data; boundary=x"), Limits()))
    assert caught.value.status == 400


def test_a_body_that_does_not_end():
    async def read(limits):
        return [part async for part in read_body(request([b"12345"] * 3, endless=True), limits)]

    with pytest.raises(ApiError) as caught:
        asyncio.run(read(Limits(body_seconds=0.05)))
    assert caught.value.status == 408
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(Limits(body_bytes=12)))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "kind", ["Multipart/Form-Data; boundary=x", 'multipart/form-data ; Boundary="x"; charset=UTF-8']
)
def test_media_types_in_any_case(kind):
    fields, audio = asyncio.run(read_upload(request([form(b"RIFF")], kind), Limits()))
    assert fields == [("model", "tiny")] and audio == b"RIFF"


@pytest.mark.parametrize("charset", ["idna", "undefined", "utf-16", "no such", "base64", "", "a\0b"])
def test_odd_charsets(charset):
    with pytest.raises(ApiError, match="UTF-8") as caught:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        asyncio.run(read_upload(request([form(b"RIFF")], kind), Limits()))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "kind", ["", "multipart/form-data", "multipart/mixed; boundary=x", "application/json"]
)
def test_other_media_types(kind):
    with pytest.raises(ApiError) as caught:
        asyncio.run(read_upload(request([form(b"RIFF")], kind), Limits()))
    assert caught.value.status == 400
