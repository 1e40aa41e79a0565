"""Responses to questions about recordings, whatever generates the tokens.

Notable choices
- A recording that cannot be answered gives a response with a one-line `error`; the others are answered.
- A response has one segment, the whole recording; `inquiry` splits longer ones and merges the responses.
- Recordings are read in windows and sorted by shape within each for even batches; responses are in input
  order. A batch may mix requests, since they are part of the sequences.
- An answer depends on nothing but its own recording, the request and the settings.

Legend: T mel frames.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Any

import numpy as np

from mindspore_osum.data.batches.batching import features, frames_of
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.inference.fallback import fall_back
from mindspore_osum.inference.inquiry import name_of
from mindspore_osum.inference.reading import Reader
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import END, RETRY, RETRY_PENALTY, Sampling
from mindspore_osum.inference.tokens import Generated, Tokens
from mindspore_osum.models.buckets import SMALLEST_FRAMES, SMALLEST_LENGTH, bucket
from mindspore_osum.results import Answer, Response
from mindspore_osum.speech.audio import SAMPLE_RATE, load_audio
from mindspore_osum.speech.features import features_of
from mindspore_osum.speech.long import Track
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import Tokenizer

WINDOW = 16  # batches that are read ahead and sorted together


@dataclass
class _Job:
    """A recording being answered."""

    number: int
    response: Response
    where: str  # for errors: the recording, or its manifest's file:line
    request: Request
    prompt: Prompt | None = None  # None if it cannot be answered
    written: Generated | None = None  # what was generated
    words: Any = None  # of the system's aligner, if they were asked for
    spent: float = 0.0  # seconds of reading and features

    def fail(self, error: UserError) -> None:
        text = str(error)
        text = text if text.startswith(self.where) else f"{self.where}: {text}"
        self.response.error = self.response.segments[0].error = text


class Answerer:
    """Answers by a token generator: reading, features, prompts and parsing around it.

    Parameters
    ----------
    cfg : description of the model.
    generator : generates tokens from the model's prompts.
    labels : gives probabilities of labels; without it (None) a request for them is refused.
    aligner : gives times of words (`System.aligner`); without it a request for them is refused.
    """

    def __init__(self, cfg: Config, tokenizer: Tokenizer, generator: Tokens, labels=None, aligner=None):
        self.cfg, self.tokenizer, self.generator, self.labels = cfg, tokenizer, generator, labels
        self.aligner = aligner
        generator.pieces = tokenizer.vocab_size
        self.system = system_of(cfg.model_type)
        self.template = self.system.template(cfg)
        self.prompts = self.system.prompts(cfg, tokenizer)
        self.reader = Reader(cfg, tokenizer, labels)

    def answer(
        self,
        sources: Iterable,
        *,
        task: str | None = None,
        instruction: str | None = None,
        requests: Iterable[Request] | None = None,
        sampling: Sampling | None = None,
        batch_size: int = 8,
        probabilities: bool = False,
    ) -> list[Response]:
        """The responses to all recordings, in their order.

        Parameters
        ----------
        sources : what `load_audio` takes (paths, bytes, (array, rate)), a `Track` of it, or manifest lines
            (`Utterance`).
        task : abbreviation ("asr") or published key; its tags are the request. Default "asr".
        instruction : the request in free words, instead of a task.
        requests : instead of both, a request for each source (see `make_request`).
        sampling : settings of generation; by default greedy.
        batch_size : recordings computed together, whatever is asked of each.
        probabilities : also the probability of each label of the sets answered from; see `label_scores`.

        Raises
        ------
        UserError : an impossible request or setting. What is wrong with a recording is in its response.
        """
        return list(
            self.answer_each(
                sources,
                task=task,
                instruction=instruction,
                requests=requests,
                sampling=sampling,
                batch_size=batch_size,
                probabilities=probabilities,
            )
        )

    def answer_each(
        self,
        sources: Iterable,
        *,
        task: str | None = None,
        instruction: str | None = None,
        requests: Iterable[Request] | None = None,
        sampling: Sampling | None = None,
        batch_size: int = 8,
        probabilities: bool = False,
    ) -> Iterator[Response]:
        """As `answer`, one response after the other: for more recordings than fit in memory."""
        if requests is None:
            requests = repeat(make_request(task, instruction))
        elif task is not None or instruction is not None:
            raise UserError("requests for each recording exclude a task or an instruction for all")
        waiting, turn = {}, 0
        for batch in self.answer_batches(_pairs(sources, requests), sampling, batch_size, probabilities):
            waiting |= batch
            while turn in waiting:
                yield waiting.pop(turn)
                turn += 1

    def answer_batches(
        self,
        questions: Iterable[tuple[object, Request]],
        sampling: Sampling | None = None,
        batch_size: int = 8,
        probabilities: bool = False,
    ) -> Iterator[dict[int, Response]]:
        """Answer (source, request) pairs in the order that suits the model.

        Yields
        ------
        Number of the pair -> response, batch by batch; before a window's batches what cannot be answered.
        """
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}: must be 1 or more")
        if probabilities and self.labels is None:
            raise UserError("this model gives no probabilities of labels; ask without them")
        sampling, numbered, rows = sampling or Sampling(), enumerate(questions), 1
        while window := [self._prepare(n, *q) for n, q in islice(numbered, WINDOW * batch_size)]:
            if failed := {job.number: job.response for job in window if not job.prompt}:
                yield failed
            jobs = sorted((job for job in window if job.prompt), key=_shape)
            for start in range(0, len(jobs), batch_size):
                batch = jobs[start : start + batch_size]
                rows = max(rows, len(batch))  # a smaller batch reuses the graphs of the largest so far
                self._run(batch, sampling, rows, probabilities)
                for job in batch:
                    job.prompt = None  # features are large, responses are small
                yield {job.number: job.response for job in batch}

    def stream(self, source, request: Request, sampling: Sampling | None = None) -> Iterator[str]:
        """The answer to one recording while it is written; the pieces joined are its ``response.raw``.

        The generator's return value (the value of ``yield from``) is the `Response`.

        Raises
        ------
        UserError : what `answer` would give as the response's `error`.
        """
        job, written, sent = self._prepare(0, source, request), Generated(), ""
        if job.prompt is None:
            raise UserError(job.response.error)
        ids, spent, begun = [*job.prompt.opening], 0.0, self._clock()
        with closing(self.generator.stream([job.prompt], sampling)) as steps:
            for (token,) in steps:
                spent += self._clock() - begun
                self.generator.note(written, 0, int(token), sampling)
                if token in self.generator.eos_ids:
                    break
                ids.append(int(token))
                # the first bytes of a character that needs more are shown as U+FFFD until it is complete
                text = self.tokenizer.decode(ids).rstrip("\ufffd")
                if len(text) > len(sent):
                    yield text[len(sent) :]
                    sent = text
                begun = self._clock()  # what the reader does with a piece is no computing
        if rest := self.tokenizer.decode(ids)[len(sent) :]:
            yield rest
        written.find_loop(sampling)
        begun = self._clock()
        self._read(job, written)
        if job.response.seconds:
            job.response.rtf = (job.spent + spent + self._clock() - begun) / job.response.seconds
        return job.response

    def _prepare(self, number: int, source, request: Request) -> _Job:
        start, name = time.perf_counter(), name_of(source)
        where = source.where if isinstance(source, Utterance) else name
        job = _Job(number, Response(name, segments=[Answer()]), where, request)
        try:
            job.request = self.asked(request)
            job.prompt, job.response.seconds = self.prompt(source, job.request, job.response.notes)
        except UserError as error:
            job.fail(error)
        job.spent = time.perf_counter() - start
        return job

    def prompt(self, source, request: Request, notes: list[str] | None = None) -> tuple[Prompt, float]:
        """The prompt, and the seconds of the recording; 0 if the request needs none.

        Parameters
        ----------
        source : as in `answer`, or log-mel features, float32 (T, F).
        notes : warnings about the recording are appended to it.

        Raises
        ------
        UserError : a recording that cannot be read or is too long, or no positions left for the answer.
        """
        request = self.asked(request)
        mel_TF, seconds = self._features(source, notes) if self.hears(request) else (None, 0.0)
        speech = None if mel_TF is None else self.cfg.tokens(len(mel_TF))
        prompt = self.prompts.prompt(request, speech, mel_TF)
        self.generator.room(prompt)  # refuses what is too long
        return prompt, seconds

    @property
    def log_probabilities(self) -> bool:
        """Whether answers always have their mean log-probability."""
        parts = getattr(self.generator, "parts", None)  # an export has none
        return parts is not None and parts.log_probabilities

    def asked(self, request: Request) -> Request:
        """The request in the model's words; UserError for what it cannot be asked, whatever the recording."""
        request = self.system.asked(request, self.cfg)
        self.system.check_request(request, self.cfg)
        if request.word_times and self.aligner is None:
            raise UserError("word_times: an exported model does not give them; ask without")
        return request

    def passes(self, requests: Sequence[Request]) -> list[Request]:
        """What is asked to answer all requests about a recording, whose answers are then merged."""
        return [one for request in requests for one in self.system.passes(request, self.cfg)]

    def hears(self, request: Request) -> bool:
        """Whether a request, or a turn before it, is about a recording."""
        return self.prompts.hears(self.asked(request))

    def room(self, request: Request, seconds: float = 0.0) -> int:
        """Positions left for the answer about a recording of this length; UserError if there are none."""
        request = self.asked(request)
        frames = self.cfg.features.frames_in(max(seconds, self.cfg.features.pad_to_seconds))
        speech = self.cfg.tokens(max(frames, 1)) if self.hears(request) else None
        return self.generator.room(self.prompts.prompt(request, speech))

    def _features(self, source, notes: list[str] | None) -> tuple[np.ndarray, float]:
        """Log-mel (T, F) and the seconds of a recording; one that is too long is refused first."""
        cfg = self.cfg.features
        if isinstance(source, np.ndarray):
            if source.ndim != 2 or source.shape[1] != cfg.n_mels or not len(source):
                raise UserError(
                    f"array of shape {source.shape}: alone it is log-mel, (frames, {cfg.n_mels}); samples "
                    "are given as a tuple (array, rate)"
                )
            self._check_length(len(source))
            return source.astype(np.float32), cfg.seconds(len(source))
        if isinstance(source, Utterance):
            if source.wav is None:
                raise UserError(f"{source.where}: no recording in this line; `osum infer` answers recordings")
            frames = frames_of(source, cfg)
            self._check_length(frames)
            return features(source, cfg), cfg.seconds(frames)
        source, channel = (source.source, source.channel) if isinstance(source, Track) else (source, None)
        wave_N = load_audio(source, channel=channel, notes=notes)
        self._check_length(cfg.frames(len(wave_N)))
        return features_of(wave_N, cfg), len(wave_N) / SAMPLE_RATE

    def _check_length(self, frames: int) -> None:
        most, seconds = self.cfg.most_frames, self.cfg.features.seconds
        if frames > most:
            raise UserError(
                f"{seconds(frames):.2f} s of audio, the model takes at most "
                f"{seconds(most):g} s at once; split the recording"
            )

    def _run(self, jobs: list[_Job], sampling: Sampling, rows: int, probabilities: bool) -> None:
        start = self._clock()
        generated = self._generated([job.prompt for job in jobs], sampling, rows)
        for job, written in zip(jobs, generated, strict=True):
            job.written = written
        asked = [job for job in jobs if job.request.word_times]
        found = self.aligner.words([self._heard(job) for job in asked], rows) if asked else []
        for job, words in zip(asked, found, strict=True):
            job.words = words
        spent, seconds = self._clock() - start, sum(job.response.seconds for job in jobs)
        for job in jobs:
            start = self._clock()
            try:
                self._read(job, job.written, probabilities)
            except UserError as error:
                job.fail(error)
            if job.response.seconds:
                own = job.spent + self._clock() - start
                job.response.rtf = own / job.response.seconds + spent / seconds

    def _heard(self, job: _Job) -> tuple:
        """What the aligner needs to know of an answered job."""
        return job.request, job.written, job.prompt.mel_TF, job.response.seconds

    def windows(
        self, asked: Sequence[tuple[np.ndarray, Request]], sampling: Sampling, rows: int
    ) -> list[tuple[Response, Generated | None, Any]]:
        """Answer windows of recordings as one batch, for `seeking`.

        Parameters
        ----------
        asked : log-mel (T, F) and what is asked about it.
        rows : as in `Tokens.generate`.

        Returns
        -------
        For each the response, what was generated (None if it has an error), and words that were asked for.
        """
        jobs = [self._prepare(n, *one) for n, one in enumerate(asked)]
        if possible := [job for job in jobs if job.prompt]:
            self._run(possible, sampling, rows, False)
        return [(job.response, job.written, job.words) for job in jobs]

    def _clock(self) -> float:
        """Seconds that pass while nothing is compiled."""
        return time.perf_counter() - self.generator.compile_seconds

    def _generated(self, prompts: list[Prompt], sampling: Sampling, rows: int) -> list[Generated]:
        """The answers; what is doubtful, and loops if `sampling` says so, are generated once more."""
        found = self.generator.generate(prompts, sampling, rows)
        fall_back(self.system, self.generator, self.tokenizer.decode, prompts, found, sampling, rows)
        again = [n for n, one in enumerate(found) if one.unit] if sampling.loops == RETRY else []
        if again:
            stronger = replace(
                sampling, repetition_penalty=max(sampling.repetition_penalty, RETRY_PENALTY), loops=END
            )
            second = self.generator.generate([prompts[n] for n in again], stronger, rows)
            for n, one in zip(again, second, strict=True):
                one.retried = True
                found[n] = one
        return found

    def _read(self, job: _Job, written: Generated, probabilities: bool = False) -> None:
        """The generated tokens as the answer of the job's response."""
        answer = self.reader.read(job.prompt, job.request, written, probabilities)
        answer.end = job.response.seconds
        if job.words is not None and job.request.earlier is None:
            self.aligner.add(answer, self._heard(job), job.words)
        job.response.segments = [answer]


def _pairs(sources: Iterable, requests: Iterable[Request]) -> Iterator[tuple[object, Request]]:
    requests, missing = iter(requests), object()
    for source in sources:
        request = next(requests, missing)
        if request is missing:
            raise UserError("requests: fewer than recordings; give one for each")
        yield source, request
    if not isinstance(requests, repeat) and next(requests, missing) is not missing:
        raise UserError("requests: more than recordings; give one for each")


def _shape(job: _Job) -> tuple[int, int, int]:
    """Sort key: neighbours share static shapes; requests without speech come first."""
    frames = -1 if job.prompt.mel_TF is None else len(job.prompt.mel_TF)
    return bucket(frames, SMALLEST_FRAMES), bucket(len(job.prompt), SMALLEST_LENGTH), frames
