"""What `osum serve` refuses, and how it stops."""

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.serving.client import TOKEN, messages, serving
from tests.speech.voices import RECORDINGS

openai = pytest.importorskip("openai", reason="needs openai (extra dev)")
httpx = pytest.importorskip("httpx", reason="needs httpx (extra dev)")

WAV = RECORDINGS[0].read_bytes()
CAP = 1 << 17


@pytest.fixture(scope="module")
def server():
    """On all addresses, with a token, one place and short bodies."""
    with serving(
        "--host", "0.0.0.0", "--queue", 1, "--max-body", CAP / 2**20, "--max-audio", 30, OSUM_TOKEN=TOKEN
    ) as server:
        yield server


@pytest.fixture
def post(server):
    """post(content) -> the answer to a chat with the right token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return lambda content: httpx.post(
        f"{server.url}/chat/completions", content=content, headers=headers, timeout=60
    )


def test_token(server):
    assert [model.id for model in server.openai(TOKEN).models.list().data] == ["tiny"]
    assert httpx.get(f"{server.root}/health").status_code == 200
    for wrong in ("x", TOKEN[:-1], TOKEN + "x", "Ä"):
        headers = {"Authorization": f"Bearer {wrong}".encode()}
        for path in ("/metrics", "/v1/models", "/nothing"):
            answer = httpx.get(f"{server.root}{path}", headers=headers)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError) as caught:
        server.openai("wrong").chat.completions.create(model="tiny", messages=messages(WAV))
    assert caught.value.code == "invalid_api_key"


def test_long_bodies(server, post):
    """Refused whether they say their length or not, and the client sees why."""
    with pytest.raises(openai.APIStatusError, match=f"longer than the {CAP} bytes") as caught:
        server.openai(TOKEN).audio.transcriptions.create(model="tiny", file=("a.wav", bytes(2 * CAP)))
    assert caught.value.status_code == 413
    assert post(bytes(CAP) for _ in range(3)).status_code == 413
    assert post(b" " * CAP).status_code == 400  # not too long, but nothing
    assert post(bytes(CAP) for _ in range(20)).status_code == 413  # even if nobody reads it to its end


def test_places(server, post):
    """A place is taken before the body is there; who finds none is told when to come again."""
    address = urlsplit(server.root)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection((address.hostname, address.port)) as slow:
        slow.sendall(f"{head}Content-Length: 2\r\n\r\n{{".encode())
        until = time.monotonic() + 30
        while (answer := post(b"{")).status_code != 503 and time.monotonic() < until:
            time.sleep(0.05)
        assert answer.status_code == 503 and 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.json()["error"]["code"] == "overloaded"
        assert httpx.get(f"{server.root}/health").status_code == 200
        slow.sendall(b"}")
        assert b" 400 " in slow.recv(4096).split(b"\r\n")[0]
    assert post(b"{").status_code == 400


def test_graceful_stop():
    """What runs is finished, what is new refused, and the end is 0."""
    with serving("--batch-size", 1, "--max-new-tokens", 32, "--grace", 300) as server:
        answers = []

        def ask():
            stream = server.openai().chat.completions.create(
                model="tiny", messages=messages(WAV), stream=True
            )
            answers.extend(stream)

        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 30
        while not server.numbers()["osum_requests_in_progress",] and time.monotonic() < until:
            time.sleep(0.02)
        stopping = threading.Thread(target=lambda: answers.append(server.stop()))
        stopping.start()  # the graphs are still being compiled
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.root}/health", timeout=60)
        asking.join()
        stopping.join()
    *pieces, (status, errors) = answers
    assert pieces[-1].choices[0].finish_reason and pieces[-1].osum
    assert status == 0 and errors == "osum: stopped\n"


def test_errors_are_json_for_every_status(server, post):
    assert set(json.loads(post(b"{").text)["error"]) == {"message", "type", "param", "code"}
