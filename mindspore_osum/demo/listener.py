"""The model behind the page: one thread owns it, and an answer comes in stages."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event

import numpy as np

from mindspore_osum.demo.texts import ALL, Texts
from mindspore_osum.demo.views import mel_picture
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.inquiry import Inquiry, Question
from mindspore_osum.inference.passes import plan
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response, clock
from mindspore_osum.speech.audio import duration_seconds, load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.tasks import TASKS, label_sets_of

REQUEST_CHARS = 500  # of a request, and of hotwords


@dataclass(frozen=True)
class Limits:
    """What one request may be."""

    seconds: float  # of the recording
    max_seconds: float  # longer recordings are split at pauses
    new_tokens: int


@dataclass(frozen=True)
class Asked:
    """A recording and what is asked about it; words of one's own go before the task."""

    audio: str | None
    task: str
    words: str
    hotwords: str

    def name(self, text: Texts) -> str:
        """The request as it is shown."""
        request = self.words or text(self.task)
        return text("with hotwords", request=request, hotwords=self.hotwords) if self.hotwords else request

    def requests(self) -> list[Request]:
        """What the model is asked, a request for each pass."""
        if self.words:
            return [make_request(instruction=self.words, hotwords=self.hotwords)]
        if self.task == ALL:
            return plan(tuple(TASKS), hotwords=self.hotwords)
        return [make_request(self.task, hotwords=self.hotwords)]

    def label_fields(self) -> list[str]:
        """The fields of the labels that are asked for, as far as the request is known."""
        keys = [request.asks_for for request in self.requests()]
        return list(dict.fromkeys(labels.field for key in keys if key for labels in label_sets_of(key)))


@dataclass(frozen=True)
class Stage:
    """How far an answer is.

    Attributes
    ----------
    doing : what is awaited, in the page's language; "" at the end.
    response : what is answered so far.
    picture : the log-mel picture of the recording, uint8 (H, W, 3).
    """

    doing: str
    response: Response | None = None
    picture: np.ndarray | None = None


class Listener:
    """A model owned by one thread, which loads it first and then answers one request after the other.

    Parameters
    ----------
    load : gives the model; its argument is to be called with what takes long, as `Engine` does.

    Attributes
    ----------
    model : the loading of it, a `Future`; its error is why there is none.
    """

    def __init__(self, load: Callable, limits: Limits):
        self.limits, self.owner, self._closing = limits, ThreadPoolExecutor(1), Event()
        self._asking: list[SimpleQueue] = []  # of stages, the oldest request first
        self.model = self.owner.submit(load, self._waiting)

    def _waiting(self, what: str, done: int, total: int) -> None:
        """Tell what takes long: those who wait for the model, or the one who is answered."""
        for stages in self._asking[:] if what == "weights" else self._asking[:1]:
            stages.put((what, done, total))

    def listen(self, asked: Asked, text: Texts) -> Iterator[Stage]:
        """The stages of an answer; the last one has all of it.

        Raises
        ------
        UserError : it cannot be answered.
        """
        self._check(asked, text)
        stages, left = SimpleQueue(), Event()

        def work():
            for stage in self._answer(asked, text):
                if left.is_set() or self._closing.is_set():
                    return
                stages.put(stage)

        self._asking.append(stages)
        job = self.owner.submit(work)
        job.add_done_callback(lambda _: stages.put(None))
        try:
            yield (last := Stage(text("waiting" if self.model.done() else "loading")))
            while (found := stages.get()) is not None:
                if isinstance(found, Stage):
                    yield (last := found)
                else:
                    yield replace(last, doing=text.join([last.doing, _long(*found, text)]))
            job.result()
        finally:  # nobody waits any more: nothing further is asked
            self._asking.remove(stages)
            left.set()
            job.cancel()

    def close(self, seconds: float) -> bool:
        """End between two passes; whether the thread has done so within these seconds."""
        self._closing.set()
        end = self.owner.submit(int)
        self.owner.shutdown(wait=False)
        return bool(wait([end], seconds).done)

    def _check(self, asked: Asked, text: Texts) -> None:
        """Refuse what needs no model to be refused."""
        if not asked.audio:
            raise UserError(text("no recording"))
        for words in (asked.words, asked.hotwords):
            if len(words) > REQUEST_CHARS:
                raise UserError(text("long request", n=len(words), most=REQUEST_CHARS))
        asked.requests()
        seconds = duration_seconds(asked.audio)
        if seconds > self.limits.seconds:
            raise UserError(text("long recording", seconds=f"{seconds:.0f}", most=f"{self.limits.seconds:g}"))

    def _answer(self, asked: Asked, text: Texts) -> Iterator[Stage]:
        """In the model's thread: a stage before each pass over each part of the recording, and the end."""
        engine, sampling = self.model.result().engine, Sampling(max_new_tokens=self.limits.new_tokens)
        unpadded = replace(engine.cfg.features, pad_to_seconds=0.0)
        picture = mel_picture(log_mel(load_audio(asked.audio), unpadded))
        inquiry = Inquiry(asked.audio, engine.passes(asked.requests()), self.limits.max_seconds, gate=True)
        for question in inquiry.questions():
            yield Stage(_doing(inquiry, question, text), inquiry.response(), picture)
            pair = [(question.source, question.request)]
            for batch in engine.answer_batches(pair, sampling, 1, engine.labels is not None):
                question.part.take(question.number, batch[0])
        yield Stage("", inquiry.response(), picture)


def _doing(inquiry: Inquiry, question: Question, text: Texts) -> str:
    part, passes = question.part, len(inquiry.requests)
    which = text("pass", n=question.number + 1, passes=passes) if passes > 1 else ""
    times = {"start": clock(part.start), "end": clock(part.end), "seconds": clock(inquiry.seconds)}
    where = text("heard", **times) if part.seconds < inquiry.seconds - 0.05 else ""
    return text.join([text("listening"), which, where])


def _long(what: str, done: int, total: int, text: Texts) -> str:
    """What takes long, see `Engine`."""
    if what == "weights":
        return f"{done / max(total, 1):.0%}"
    return text("compiling", n=done) if what == "graph" else ""


def bundled(text: Texts) -> list[tuple[str, str]]:
    """The bundled recordings: what each is, and its path."""
    folder, found = BUNDLED.parent / "recordings", {}
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        values = json.loads(line)
        found.setdefault(values["wav"], values["extra"])
    return [(text.description(about), str(folder / wav)) for wav, about in found.items()]
