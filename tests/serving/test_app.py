"""The server's own part, without a model: who waits, who has gone, what is kept, and the end."""

import asyncio
import json
import logging
import socket
import threading
import time
import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from mindspore_osum.results import Answer, Response
from mindspore_osum.systems.registry import preset, system_of
from tests.serving.client import messages

openai = pytest.importorskip("openai", reason="needs openai (extra dev)")
httpx = pytest.importorskip("httpx", reason="needs httpx (extra dev)")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn (extra serve)")

from mindspore_osum.serving.app import create_app  # noqa: E402
from mindspore_osum.serving.bodies import Limits  # noqa: E402
from mindspore_osum.serving.metrics import Metrics  # noqa: E402

ADDRESS = "/v1/chat/completions"
DEADLINE = 30  # seconds


class Still:
    """In the place of a `Batcher`: keeps the jobs, and does with each what the test says."""

    alive = True

    def __init__(self, what=lambda job: None):
        self.jobs, self._what = [], what
        cfg, tokenizer = preset("tiny"), SimpleNamespace(encode=list)
        template = system_of(cfg.model_type).template(cfg)
        self.engine = SimpleNamespace(cfg=cfg, tokenizer=tokenizer, template=template)

    def submit(self, job):
        self.jobs.append(job)
        self._what(job)


def app(batcher: Still, **limits):
    return create_app(batcher, Metrics(), "tiny", Limits(**limits), None)


def answer(job, cut: bool = False):
    job.future.set_result(Response("audio", 1.0, [Answer(0.0, 1.0, "good day", raw="good day", cut=cut)]))


def client(server) -> httpx.AsyncClient:
    """Of an application that runs in this very loop."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://x", timeout=DEADLINE)


def chat(audio: bytes = b"RIFF", stream: bool = False) -> bytes:
    return json.dumps({"model": "tiny", "messages": messages(audio), "stream": stream}).encode()


async def until(so) -> None:
    end = time.monotonic() + DEADLINE
    while not so() and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert so()


async def called(server, *received: dict) -> list[dict]:
    """What the application sends to a client that sends this, and then nothing more for ever."""
    waiting, sent = list(received), []

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": ADDRESS, "headers": [], "query_string": b""}
    await asyncio.wait_for(server(scope, receive, send), DEADLINE)
    return sent


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("format", ["json", "verbose_json", "text", "srt", "vtt"])
def test_transcriptions_say_whether_they_were_cut(format, cut):
    """In a header, and in the two forms that have fields; the official client reads them all."""

    async def ask():
        server = app(Still(lambda job: answer(job, cut)))
        asked = openai.AsyncOpenAI(base_url="http://x/v1", api_key="none", http_client=client(server))
        create = asked.audio.transcriptions.with_raw_response.create
        return await create(model="tiny", file=("a.wav", b"RIFF"), response_format=format)

    raw, why = asyncio.run(ask()), "length" if cut else "stop"
    parsed = raw.parse()
    assert raw.headers["X-Finish-Reason"] == why
    assert format not in ("json", "verbose_json") or (parsed.finish_reason, parsed.text) == (why, "good day")


def test_every_spelling_of_an_address_needs_a_place():
    """The routes take a line break at the end; with it, too, a request waits for a place."""

    async def ask():
        batcher = Still(lambda job: len(batcher.jobs) > 1 and answer(job))
        async with client(app(batcher, places=1)) as asked:
            first = asyncio.create_task(asked.post(ADDRESS, content=chat()))
            await until(lambda: batcher.jobs)
            others = [await asked.post(path, content=chat()) for path in (f"{ADDRESS}%0A", ADDRESS)]
            answer(batcher.jobs[0])
            return [answer.status_code for answer in (await first, *others)], len(batcher.jobs)

    assert asyncio.run(ask()) == ([200, 503, 503], 1)


@pytest.mark.parametrize("stream", [False, True])
def test_only_the_recording_is_kept_while_it_waits(stream):
    """Neither the body nor its base64, which are longer."""
    length, kept = 6 << 20, []

    def look(job):
        kept.append((len(job.audio), tracemalloc.get_traced_memory()[0]))
        answer(job)

    server, body = app(Still(look)), chat(bytes(length), stream)
    tracemalloc.start()
    try:
        sent = asyncio.run(called(server, {"type": "http.request", "body": body}))
    finally:
        tracemalloc.stop()
    ((audio, memory),) = kept
    assert sent[0]["status"] == 200 and audio == length and memory < 1.2 * length


@pytest.mark.parametrize("piece", [None, "good"])
def test_who_goes_away_before_the_first_piece_is_not_worked_for(piece, monkeypatch):
    """Whether there is none yet, or it comes in the same moment."""
    monkeypatch.setattr("mindspore_osum.serving.app.LOOK_S", 0.01)
    batcher = Still(lambda job: piece and job.on_piece(piece))
    asked = {"type": "http.request", "body": chat(stream=True)}, {"type": "http.disconnect"}
    asyncio.run(called(app(batcher), *asked))
    assert batcher.jobs[0].future.cancelled()


def test_a_body_that_came_too_slowly_is_not_waited_for_again():
    batcher = Still()
    server = app(batcher, body_seconds=0.2)
    server._drain = None  # what would wait
    sent = asyncio.run(called(server, {"type": "http.request", "body": b"{", "more_body": True}))
    assert sent[0]["status"] == 408 and not batcher.jobs


@contextmanager
def running(server):
    """(a uvicorn in a thread of its own that has a moment to stop, its address)."""
    config = uvicorn.Config(server, log_config=None, lifespan="off", timeout_graceful_shutdown=0.2)
    listening = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(target=listening.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield listening, url
        finally:
            listening.should_exit = True
            thread.join()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_an_answer_that_is_not_ready_when_the_server_stops(stream, begun, caplog):
    """The client is told, or sees that the answer is incomplete; nowhere is a stack trace."""
    batcher = Still(lambda job: begun and stream and job.on_piece("good"))
    with running(app(batcher)) as (server, url):

        def stop():
            while not batcher.jobs:
                time.sleep(0.01)
            time.sleep(0.2)
            server.should_exit = True

        stopping = threading.Thread(target=stop)
        stopping.start()
        try:
            told = httpx.post(url + ADDRESS, content=chat(stream=stream), timeout=DEADLINE)
            assert told.status_code == 503 and "is stopping" in told.json()["error"]["message"]
        except httpx.RemoteProtocolError:
            assert begun and stream
        stopping.join()
    (job,) = batcher.jobs
    if stream:
        assert job.future.cancelled()
        job.on_piece("day")  # the model's thread does not know yet
    elif not job.future.cancelled():
        answer(job)
    assert not [record for record in caplog.records if record.exc_info]
    assert "Traceback" not in caplog.text and logging.getLogger("uvicorn.error").isEnabledFor(logging.ERROR)
