"""Clients that say nothing, with real sockets and no model."""

import logging
import resource
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn (extra serve)")

from mindspore_osum.serving import connections  # noqa: E402
from mindspore_osum.serving.connections import Patient, Seldom, limit_connections  # noqa: E402

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope, receive, send):
    if scope["path"] == "/long":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@contextmanager
def running(cap: int = 1024, seconds: float = 10.0):
    """connect() of a server with these limits."""
    kind = type("Limited", (Patient,), {"cap": cap, "seconds": seconds, "answer_seconds": seconds})
    server = uvicorn.Server(uvicorn.Config(hello, http=kind, loop="asyncio", log_config=None, lifespan="off"))
    with ExitStack() as opened:
        bound = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        address = bound.getsockname()
        with ExitStack() as clients:
            yield lambda: clients.enter_context(socket.create_connection(address, timeout=10))
        server.should_exit = True
        thread.join()


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def answered(client: socket.socket) -> bool:
    client.sendall(GET)
    found = b""
    while not found.endswith(b"hi"):
        if not (more := client.recv(1000)):
            return False
        found += more
    return b" 200 " in found


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHos"])
def test_a_head_that_does_not_end(begun):
    with running(seconds=0.3) as connect:
        silent, start = connect(), time.monotonic()
        silent.sendall(begun)
        assert ended(silent) and time.monotonic() - start < 5


def test_a_second_head_that_does_not_end():
    """The first request of a connection gives no more time to its next."""
    with running(seconds=0.3) as connect:
        client = connect()
        assert answered(client) and answered(client)
        client.sendall(b"GET / ")
        assert ended(client)


def test_an_answer_that_nobody_takes():
    """It is given up; what is taken slowly is not."""
    with running(seconds=0.3) as connect:
        slow, stuck = connect(), connect()
        for client in (slow, stuck):
            client.sendall(GET.replace(b"/ ", b"/long "))
        taken, start = 0, time.monotonic()
        while time.monotonic() - start < 1.5 or taken < 1000 << 16:
            taken += len(slow.recv(1 << 20))
            time.sleep(0.01)
        found = 1
        with suppress(ConnectionResetError):
            while more := stuck.recv(1 << 20):
                found += len(more)
        assert found < 1000 << 16 <= taken


def test_chunks_of_a_byte_take_turns_with_others(monkeypatch):
    """3 MB in chunks of a byte, 256 KiB of them parsed at once, stopped /health for six seconds."""
    sizes, taken = [], Patient.data_received
    monkeypatch.setattr(
        Patient, "data_received", lambda self, data: (sizes.append(len(data)), taken(self, data))
    )
    head = b"POST /long HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running() as connect:
        client = connect()
        client.sendall(head + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n")
        assert client.recv(100)
        assert answered(connect())
    assert max(sizes) <= connections.PIECE


def test_others_are_answered_however_many_are_silent():
    with running(cap=8) as connect:
        silent = [connect() for _ in range(30)]
        assert all(ended(client) for client in silent[:20])
        assert answered(connect())


def test_many_lines_are_few(caplog):
    logger = logging.Logger("many")
    seldom = Seldom()
    logger.addFilter(seldom)
    logger.addHandler(caplog.handler)
    for n in range(1000):
        logger.warning("line %d", n)
    assert len(caplog.records) == connections.LINES
    seldom._start -= connections.WITHIN + 1
    logger.warning("later %d", 1)
    assert caplog.records[-1].getMessage() == f"later 1 (and {1000 - connections.LINES} lines before it)"


def test_descriptors(monkeypatch):
    """The soft limit is raised, and connections stay below what it is."""
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(Patient, "cap", 1024)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    limit_connections()
    assert limits["now"] == (4096, 4096) and Patient.cap == 1024
    limits["now"] = (300, 300)
    limit_connections()
    assert Patient.cap == 300 - connections.SPARE
