"""The server's own part, without a model: who waits, who has gone, what is kept, and the end."""

import asyncio
import json
import logging
import re
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
from mindspore_osum.serving.batcher import Stage  # noqa: E402
from mindspore_osum.serving.bodies import Limits  # noqa: E402
from mindspore_osum.serving.metrics import Metrics  # noqa: E402
from mindspore_osum.serving.request_log import RequestLog  # noqa: E402

ADDRESS = "/v1/chat/completions"
DEADLINE = 30  # seconds


class Still:
    """In the place of a `Batcher`: keeps the jobs, and does with each what the test says."""

    alive, stage = True, None

    def __init__(self, what=lambda job: None):
        self.jobs, self._what = [], what
        cfg, tokenizer = preset("tiny"), SimpleNamespace(encode=list)
        system = system_of(cfg.model_type)
        self.engine = SimpleNamespace(
            cfg=cfg,
            tokenizer=tokenizer,
            template=system.template(cfg),
            system=system,
            asked=lambda request: system.check_request(request, cfg) or request,
            log_probabilities=False,
        )

    def submit(self, job):
        self.jobs.append(job)
        self._what(job)


def app(batcher: Still, **limits):
    return create_app(batcher, Metrics(), ["tiny", "whisper-1"], Limits(**limits))


def answer(job, cut: bool = False):
    job.future.set_result(Response("audio", 1.0, [Answer(0.0, 1.0, "good day", raw="good day", cut=cut)]))


def asked(server, **settings) -> openai.AsyncOpenAI:
    """The official client of an application that runs in this very loop."""
    return openai.AsyncOpenAI(
        base_url="http://x/v1", api_key="none", max_retries=0, http_client=client(server), **settings
    )


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


async def called(server, *received: dict, length: int | None = None) -> list[dict]:
    """What the application sends to a client that sends this, and then nothing more for ever.

    `length` is what it declares; None: nothing.
    """
    waiting, sent = list(received), []

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked")]
    if length is not None:
        headers = [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": ADDRESS, "headers": headers, "query_string": b""}
    await asyncio.wait_for(server(scope, receive, send), DEADLINE)
    return sent


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("format", ["json", "verbose_json", "text", "srt", "vtt"])
def test_transcriptions_say_whether_they_were_cut(format, cut):
    """In a header, and in the two forms that have fields; the official client reads them all."""

    async def ask():
        server = app(Still(lambda job: answer(job, cut)))
        create = asked(server).audio.transcriptions.with_raw_response.create
        return await create(model="tiny", file=("a.wav", b"RIFF"), response_format=format)

    raw, why = asyncio.run(ask()), "length" if cut else "stop"
    parsed = raw.parse()
    assert raw.headers["X-Finish-Reason"] == why
    assert format not in ("json", "verbose_json") or (parsed.finish_reason, parsed.text) == (why, "good day")


def heard(**doubts) -> Response:
    """A response about two parts of a recording; `doubts` are of the second."""
    first = Answer(0.0, 1.0, "good", raw="<asr>good", confidence=0.5)
    second = Answer(1.5, 2.6, "day", raw="<asr>day", confidence=0.25, **doubts)
    return Response("audio", 2.5, [first, second], notes=["it hums"])


def test_doubts_reach_the_client():
    """In fields where a format has them, else in headers; times stay inside the recording."""
    batcher = Still(lambda job: job.future.set_result(heard(warnings=["it\nloops 圈"])))

    async def ask(**fields):
        create = asked(app(batcher)).audio.transcriptions.with_raw_response.create
        return await create(model="tiny", file=("a.wav", b"RIFF"), language="en", **fields)

    verbose, plain = (asyncio.run(ask(response_format=name)) for name in ("verbose_json", "text"))
    found = verbose.parse()
    assert (
        found.warnings[0] == "it hums" and "en: had no effect" in found.warnings[-1] and not found.no_speech
    )
    assert [round(segment.avg_logprob, 2) for segment in found.segments] == [-0.69, -1.39]
    assert found.segments[1].end == 2.5 and found.segments[1].warnings == ["it\nloops 圈"]
    shown = plain.headers["X-Warnings"]
    assert shown.startswith("it hums; ") and "loops" in shown and shown.isprintable()
    batcher._what = lambda job: job.future.set_result(
        Response("audio", 1.0, [Answer(0.0, 1.0, no_speech=True)])
    )
    assert asyncio.run(ask(response_format="srt")).headers["X-No-Speech"] == "true"


def test_a_transcription_in_pieces():
    """The deltas joined are the text, without tags; the last event has all of it."""

    def write(job):
        for piece in ("<as", "r>go", "od", "\n", "<asr>d", "ay <"):
            job.on_piece(piece)
        job.future.set_result(heard())

    async def ask():
        create = asked(app(Still(write))).audio.transcriptions.create
        stream = await create(model="tiny", file=("a.wav", b"RIFF"), stream=True)
        return [event async for event in stream]

    *deltas, done = asyncio.run(ask())
    assert [event.delta for event in deltas] == ["go", "od", " d", "ay"]
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert (done.type, done.text, done.finish_reason) == ("transcript.text.done", "good day", "stop")
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0


def test_a_model_that_is_not_ready():
    """Requests are refused for now, and /health says how far it is."""

    async def ask():
        batcher = Still(answer)
        batcher.stage = Stage("compiling graphs", 2, 12)
        async with client(app(batcher)) as http:
            before = [await http.post(ADDRESS, content=chat()), await http.get("/health")]
            assert (await http.get("/v1/models")).status_code == 200
            batcher.stage = None
            return *before, await http.post(ADDRESS, content=chat()), await http.get("/health")

    refused, starting, answered, ready = asyncio.run(ask())
    assert refused.status_code == starting.status_code == 503
    assert int(refused.headers["Retry-After"]) and int(starting.headers["Retry-After"])
    assert "compiling graphs, 2 of 12" in refused.json()["error"]["message"]
    assert starting.json() == {"status": "starting", "stage": "compiling graphs", "done": 2, "total": 12}
    assert answered.status_code == ready.status_code == 200 and ready.json() == {"status": "ready"}


def test_other_names_of_the_model():
    async def ask():
        client = asked(app(Still(answer)))
        listed = [model.id async for model in client.models.list()]
        return listed, await client.chat.completions.create(model="whisper-1", messages=messages(b"RIFF"))

    listed, answered = asyncio.run(ask())
    assert listed == ["tiny", "whisper-1"] and answered.model == "whisper-1"


def test_translations_are_refused_in_a_line():
    async def ask():
        await asked(app(Still())).audio.translations.create(model="tiny", file=("a.wav", b"RIFF"))

    with pytest.raises(openai.BadRequestError, match="does not translate"):
        asyncio.run(ask())


def test_web_pages_of_other_origins():
    """Off by default; where allowed, the question before it needs no token."""
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    ask_first = headers | {"Access-Control-Request-Headers": "authorization, x-stainless-os"}

    async def ask(origins):
        server = create_app(Still(answer), Metrics(), ["tiny"], Limits(), "token", origins=origins)
        async with client(server) as http:
            return await http.options(ADDRESS, headers=ask_first), await http.get("/health", headers=headers)

    before, answered = asyncio.run(ask(["https://a.example"]))
    assert before.status_code == 200 and "x-stainless-os" in before.headers["Access-Control-Allow-Headers"]
    assert answered.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "X-Finish-Reason" in answered.headers["Access-Control-Expose-Headers"]
    for origins in ([], ["https://b.example"]):
        for response in asyncio.run(ask(origins)):
            assert "Access-Control-Allow-Origin" not in response.headers


def test_a_line_for_each_request(tmp_path):
    """No content, no query, nothing that a terminal or another line could be made of."""
    path = tmp_path / "requests.log"

    async def ask():
        log = RequestLog(str(path))
        server = create_app(Still(answer), Metrics(), ["tiny"], Limits(), log=log)
        async with client(server) as http:
            await http.post(ADDRESS, content=chat())
            await http.post(ADDRESS, content=chat(stream=True))
            path.rename(tmp_path / "requests.log.1")
            await http.get("/no%0A%1B[31m way?secret")

    asyncio.run(ask())
    whole, streamed = (tmp_path / "requests.log.1").read_text().splitlines()
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ POST /v1/chat/completions 200 1.00 s \d+ ms"
    assert re.fullmatch(line, whole) and re.fullmatch(line, streamed)
    (strange,) = path.read_text().splitlines()
    assert re.search(r"GET /no\\n\\x1b\[31m\\x20way 404 - \d+ ms$", strange)


def test_a_body_that_declares_too_much_takes_no_slot():
    """It is refused by its head, even if all slots are taken; one far too long is not even read."""
    server = app(Still(), body_bytes=100, places=0)
    for length, closes in ((101, False), (10**12, True)):
        message = {"type": "http.request", "body": b"x" * 101}
        sent = asyncio.run(called(server, *([] if closes else [message]), length=length))
        assert sent[0]["status"] == 413
        assert ((b"connection", b"close") in sent[0]["headers"]) == closes


def test_bodies_in_progress_are_bounded_together():
    """As declared, or as they come; one alone is always taken."""

    async def ask():
        batcher = Still()
        body = chat()
        async with client(app(batcher, total_bytes=len(body) + 10)) as http:
            first = asyncio.create_task(http.post(ADDRESS, content=body))
            await until(lambda: batcher.jobs)

            async def pieces():
                yield body

            others = [await http.post(ADDRESS, content=each) for each in (body, pieces())]
            answer(batcher.jobs[0])
            return await first, *others, len(batcher.jobs)

    first, *others, jobs = asyncio.run(ask())
    assert first.status_code == 200 and jobs == 1
    assert [(other.status_code, "Retry-After" in other.headers) for other in others] == [(503, True)] * 2


def test_every_spelling_of_an_address_needs_a_place():
    """The routes take a line break at the end; with it, too, a request waits for a place."""

    async def ask():
        batcher = Still(lambda job: len(batcher.jobs) > 1 and answer(job))
        async with client(app(batcher, places=1)) as http:
            first = asyncio.create_task(http.post(ADDRESS, content=chat()))
            await until(lambda: batcher.jobs)
            others = [await http.post(path, content=chat()) for path in (f"{ADDRESS}%0A", ADDRESS)]
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
    received = {"type": "http.request", "body": chat(stream=True)}, {"type": "http.disconnect"}
    asyncio.run(called(app(batcher), *received))
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
