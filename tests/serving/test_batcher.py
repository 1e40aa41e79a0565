"""The thread that owns the model: faults, and jobs that are given up; with the bundled model."""

import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Answer, Response
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.long import Chunk
from tests.serving.client import repeated
from tests.speech.voices import RECORDINGS

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.batcher import Batcher, Job, Stage  # noqa: E402
from mindspore_osum.serving.metrics import Metrics  # noqa: E402

SHORT = min(RECORDINGS, key=lambda path: abs(soundfile.info(path).duration - 1.9))
SAMPLING = Sampling(max_new_tokens=8)


def start(**settings) -> Batcher:
    def load(enter):
        from mindspore_osum.inference.engine import Engine

        return Engine("tiny")

    return Batcher(load, Metrics(), batch_size=1, **settings)


def job(audio: bytes, request=None, **more) -> Job:
    return Job(audio, request or make_request("asr"), SAMPLING, **more)


def test_what_goes_wrong_stays_with_its_job():
    """A fault of ours, damage in the midst of a recording, a job given up: the others are answered."""
    batcher = start(chunk_seconds=4.0, audio_seconds=60.0)
    talk = repeated(SHORT, 6)
    good, given_up = job(talk), job(talk)
    fault = job(SHORT.read_bytes(), request="no Request")
    damaged, pieces = job(talk[: len(talk) // 2]), []
    streamed = job(SHORT.read_bytes(), on_piece=pieces.append)
    given_up.future.cancel()
    for each in (good, given_up, fault, damaged, streamed):
        batcher.submit(each)
    response = good.future.result(timeout=300)
    assert len(response.segments) >= 3 and response.seconds > 10
    with pytest.raises(AttributeError):
        fault.future.result(timeout=300)
    with pytest.raises(UserError, match="incomplete"):
        damaged.future.result(timeout=300)
    assert "".join(pieces) == streamed.future.result(timeout=300).raw != ""
    assert batcher.alive

    last = [job(talk), job(talk)]
    for each in last:
        batcher.submit(each)
    batcher.stop()
    assert not batcher.alive
    for each in last:  # they were not finished, and nobody waits for them for ever
        with pytest.raises(CancelledError):
            each.future.result(timeout=1)


def test_a_model_that_cannot_be_loaded_is_reported():
    def load(enter):
        raise UserError("no such model folder")

    batcher = Batcher(load, Metrics())
    assert isinstance(batcher.loaded.exception(timeout=30), UserError)
    assert batcher.stop() and batcher.stage


def test_a_stop_while_the_model_is_loaded():
    """The stage that is computed is finished, no other begins, and nobody waits longer than they want."""
    compiling, finish, seen = threading.Event(), threading.Event(), []

    def load(enter):
        for n in range(3):
            seen.append(n)
            enter(Stage("compiling", n, 3))
            compiling.set()
            finish.wait(30)

    batcher = Batcher(load, Metrics())
    compiling.wait(30)
    assert str(batcher.stage) == "compiling, 0 of 3" and not batcher.stop(0.01)
    finish.set()
    assert batcher.stop() and seen == [0, 1] and batcher.loaded.exception()


def test_a_fault_while_a_recording_is_read_on_stays_with_its_job(monkeypatch):
    """It comes when a batch is gathered, also where more comes than its header says; without a model."""

    class Echo:
        generator = SimpleNamespace(compiles=0, compile_seconds=0.0)

        def __init__(self, enter):
            pass

        def answer(self, sources, **_):
            return [Response("array", segments=[Answer(raw="x")]) for _ in sources]

    def read(audio: bytes, *_, **__):
        yield Chunk(0.0, np.zeros(SAMPLE_RATE, np.float32))
        if audio == b"faulty":
            raise MemoryError("of a library of ours")
        if audio == b"longer":
            yield Chunk(100.0, np.zeros(SAMPLE_RATE, np.float32))

    monkeypatch.setattr("mindspore_osum.inference.inquiry.chunks", read)
    monkeypatch.setattr("mindspore_osum.inference.inquiry.tracks", lambda *_: {"": None})
    for module in ("serving.batcher", "inference.inquiry"):
        monkeypatch.setattr(f"mindspore_osum.{module}.duration_seconds", lambda audio: 1.0)
    batcher = Batcher(Echo, Metrics(), audio_seconds=60)
    faulty, longer, good = job(b"faulty"), job(b"longer"), job(b"good")
    for each in (faulty, longer, good):
        batcher.submit(each)
    with pytest.raises(MemoryError):
        faulty.future.result(timeout=30)
    with pytest.raises(UserError, match="more of audio, this server takes at most 60 s"):
        longer.future.result(timeout=30)
    assert good.future.result(timeout=30).raw == "x" and batcher.alive
    batcher.stop()
