"""Recordings in, parsed answers out: a model folder with everything around it.

    engine = Engine("mindspore_osum/assets/tiny")
    result = engine.answer(["a.wav"], task="asr")[0]

Notable choices
- A recording that cannot be answered gives a `Result` with a one-line `error`; the others are answered.
- Recordings are taken a window at a time, sorted by length inside it for even batches, and come back in input
  order.
- An answer depends on nothing but its own recording, the request and the settings.

Legend: T mel frames.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mindspore_osum.data.batching import features, frames_of, speech_tokens
from mindspore_osum.data.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.folder import TOKENIZER, load_folder
from mindspore_osum.inference.generate import Generator, Prompt
from mindspore_osum.inference.request import Request, Result, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.whisper import MAX_FRAMES
from mindspore_osum.speech.audio import SAMPLE_RATE, load_audio
from mindspore_osum.speech.features import HOP, log_mel, num_frames
from mindspore_osum.tasks import parse_answer
from mindspore_osum.text.prompts import load_prompt_set
from mindspore_osum.text.sequence import build_sequence
from mindspore_osum.text.tokenizer import Tokenizer

WINDOW = 16  # batches that are read ahead and sorted together
DEVICES = ("CPU", "Ascend")
# the one prompt set whose requests began with <s>, as the released inference code made them
PUBLISHED_INFERENCE = "osum_pangu_published_inference"


@dataclass
class _Job:
    """A recording on its way."""

    result: Result
    where: str  # for errors: the recording, or its manifest's file:line
    prompt: Prompt | None = None
    spent: float = 0.0  # seconds of reading and features

    def fail(self, error: UserError) -> None:
        text = str(error)
        self.result.error = text if text.startswith(self.where) else f"{self.where}: {text}"


class Engine:
    """A model folder, ready to answer. The first use of each static shape compiles for some seconds.

    Parameters
    ----------
    folder : model folder (config.json, weights, tokenizer.model).
    device : "CPU", which computes in float32, or "Ascend", in the type of config.json.

    Raises
    ------
    UserError : a folder that is none of ours or incomplete, or a device that is not there.
    """

    def __init__(self, folder: str | os.PathLike, device: str = "CPU"):
        _use_device(device)
        model = load_folder(folder, "float32" if device == "CPU" else None)
        self.cfg = model.cfg
        self.tokenizer = Tokenizer(Path(folder) / TOKENIZER)
        if self.tokenizer.vocab_size > self.cfg.decoder.vocab_size:
            raise UserError(
                f"{self.tokenizer.path}: {self.tokenizer.vocab_size} pieces, but the model has only "
                f"{self.cfg.decoder.vocab_size}; this tokenizer does not belong to it"
            )
        self.prompts = load_prompt_set(self.cfg.prompts)
        self.generator = Generator(model)

    def answer(
        self, sources: Iterable, *, task: str | None = None, instruction: str | None = None,
        sampling: Sampling | None = None, batch_size: int = 8,
    ) -> list[Result]:  # fmt: skip
        """The results for all recordings, in their order.

        Parameters
        ----------
        sources : what `load_audio` takes (paths, bytes, (array, rate)), or manifest lines (`Utterance`).
        task : abbreviation ("asr") or published key; its tags are the request. Default "asr".
        instruction : the request in free words, instead of a task.
        sampling : settings of generation; by default greedy.
        batch_size : recordings computed together.

        Raises
        ------
        UserError : an impossible request or setting. What is wrong with a recording is in its result.
        """
        return list(
            self.answer_each(
                sources, task=task, instruction=instruction, sampling=sampling, batch_size=batch_size
            )
        )

    def answer_each(
        self, sources: Iterable, *, task: str | None = None, instruction: str | None = None,
        sampling: Sampling | None = None, batch_size: int = 8,
    ) -> Iterator[Result]:  # fmt: skip
        """As `answer`, one result after the other: for more recordings than fit in memory."""
        request = make_request(task, instruction)
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}: must be 1 or more")
        sampling = sampling or Sampling()
        sources = iter(sources)
        while window := [self._prepare(s, request) for s in islice(sources, WINDOW * batch_size)]:
            jobs = sorted((j for j in window if j.prompt), key=lambda j: len(j.prompt.mel_TF))
            for start in range(0, len(jobs), batch_size):
                self._run(jobs[start : start + batch_size], request, sampling)
            for job in window:
                job.prompt = None  # features are large, results small
                yield job.result

    def _prepare(self, source, request: Request) -> _Job:
        start, name = time.perf_counter(), name_of(source)
        job = _Job(Result(name), source.where if isinstance(source, Utterance) else name)
        try:
            mel_TF, job.result.seconds = self._features(source)
            sequence = build_sequence(
                self.tokenizer, self.prompts, request.output_type, request=request.words,
                n_speech=speech_tokens(len(mel_TF)),
                bos="published" if self.prompts.name == PUBLISHED_INFERENCE else "training",
            )  # fmt: skip
            prompt = Prompt(sequence, mel_TF)
            self.generator.room(prompt)  # refuses what is too long
            job.prompt = prompt
        except UserError as error:
            job.fail(error)
        job.spent = time.perf_counter() - start
        return job

    def _features(self, source):
        """Log-mel (T, F) and the seconds of a recording; too long ones are refused before the work."""
        pad, n_mels = self.cfg.encoder.pad_to_seconds, self.cfg.encoder.n_mels
        if isinstance(source, Utterance):
            if source.wav is None:
                raise UserError(f"{source.where}: no recording in this line; `osum infer` answers recordings")
            frames = frames_of(source)
            _check_length(frames)
            return features(source, n_mels, pad), frames * HOP / SAMPLE_RATE
        wave_N = load_audio(source)
        _check_length(num_frames(len(wave_N)))
        return log_mel(wave_N, n_mels, pad_to_seconds=pad), len(wave_N) / SAMPLE_RATE

    def _run(self, jobs: list[_Job], request: Request, sampling: Sampling) -> None:
        start, compiling = time.perf_counter(), self.generator.compile_seconds
        answers = self.generator.generate([job.prompt for job in jobs], sampling)
        spent = time.perf_counter() - start - (self.generator.compile_seconds - compiling)
        seconds = sum(job.result.seconds for job in jobs)
        for job, answer in zip(jobs, answers, strict=True):
            result = job.result
            result.rtf = job.spent / result.seconds + spent / seconds
            try:
                result.raw = self.tokenizer.decode(answer.tokens)
            except UserError as error:
                job.fail(error)
                continue
            parsed = parse_answer(result.raw, request.task)
            result.text, result.tags, result.labels = parsed.text, parsed.tags, parsed.labels
            result.words, result.answer, result.cut = parsed.words, parsed.answer, answer.cut


def name_of(source) -> str:
    """How a recording is called in results."""
    if isinstance(source, Utterance):
        return source.wav or source.key
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, tuple):
        return "array"
    return str(getattr(source, "name", None) or "bytes")


def _check_length(frames: int) -> None:
    most = 2 * MAX_FRAMES
    if frames > most:
        raise UserError(
            f"{frames * HOP / SAMPLE_RATE:.2f} s of audio, the model takes at most "
            f"{most * HOP / SAMPLE_RATE:g} s at once; cut the recording into parts"
        )


def _use_device(device: str) -> None:
    import mindspore as ms

    if device not in DEVICES:
        raise UserError(f"device {device!r}: choose one of {', '.join(DEVICES)}")
    if ms.get_context("device_target") == device:
        return  # it may be in use already, and cannot be set then
    try:
        ms.set_device(device)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"device {device}: not available here ({str(error).strip().splitlines()[0]})"
        ) from None
