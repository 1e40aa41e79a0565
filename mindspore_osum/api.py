"""The library in one class.

    from mindspore_osum import OSUM

    m = OSUM.load("folder")                               # or "tiny", the bundled model
    r = m("a.wav", "谁在说话，多大年纪？")
    print(r.text, r.labels, r.words)

Notable choices
- Long recordings need no special call: they are split at pauses, and their response has several segments.
- A single recording that cannot be read raises; among several, its response has an `error`.
"""

import numbers
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mindspore_osum.errors import UserError
from mindspore_osum.inference.inquiry import Inquiry, name_of, stream
from mindspore_osum.inference.passes import plan
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.quiet import quiet_libraries
from mindspore_osum.results import Response
from mindspore_osum.speech.long import MAX_SECONDS
from mindspore_osum.tasks import TASKS

if TYPE_CHECKING:
    from mindspore_osum.streaming.live import Heard


class OSUM:
    """A speech understanding model. Create it with `OSUM.load`; use it in one thread at a time.

    Attributes
    ----------
    engine : the inference engine, with the model's config, tokenizer and prompts.
    """

    def __init__(self, engine):
        self.engine = engine

    @classmethod
    def load(cls, folder: str | os.PathLike = "tiny", device: str = "CPU") -> "OSUM":
        """Load a model folder, or "tiny" for the bundled model, on "CPU" or "Ascend".

        Raises
        ------
        UserError : no such folder, not a model folder, or an unavailable device.
        """
        quiet_libraries()
        from mindspore_osum.inference.engine import Engine

        return cls(Engine(folder, device))

    def __call__(
        self,
        audio,
        request: str | None = None,
        *,
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        hotwords: str | Sequence[str] = (),
        **settings,
    ) -> Response | list[Response]:
        """Answer a request about recordings; without a request, transcribe.

        Parameters
        ----------
        audio : a recording of any length: path, bytes, binary file object or tuple (array, rate); or several
            of them, for a list of responses.
        request : in plain words, in any language of the model.
        task : instead of `request`: an abbreviation ("sap") or a published key.
        tasks : instead of `request`: several tasks, in as few passes as the published keys allow (see
            `passes.plan`).
        hotwords : names and terms that may be said, a list or a text with commas between them.
        settings : see `each`.

        Raises
        ------
        UserError : an invalid request or setting, or a single recording that cannot be used.
        """
        requests = _requests(request, task, tasks, hotwords)
        if not _is_one(audio):
            return list(self.each(audio, requests, **settings))
        (response,) = self.each([audio], requests, **settings)
        if response.error:
            raise UserError(response.error)
        return response

    def annotate(self, audio, **settings) -> Response | list[Response]:
        """All eight tasks as one annotation: transcript, words with times, five labels and a reply."""
        return self(audio, tasks=tuple(TASKS), **settings)

    def transcribe(self, audio, **settings) -> Response | list[Response]:
        """Words with times."""
        return self(audio, task="srwt", **settings)

    def each(
        self,
        audios: Iterable,
        requests: Sequence[Request],
        *,
        sampling: Sampling | None = None,
        batch_size: int = 8,
        max_seconds: float = MAX_SECONDS,
        vad: str = "energy",
        gate: bool = True,
        channels: str = "mix",
        probabilities: bool = False,
        confidence: bool = False,
        progress=None,
    ) -> Iterator[Response]:
        """Yield one response after the other, in order, for more recordings than fit in memory.

        Parameters
        ----------
        requests : from `make_request` or `plan`.
        sampling : settings of generation; by default greedy.
        batch_size : recordings, or chunks of them, computed together.
        max_seconds : longer recordings are split at pauses into chunks up to this length (1 to 60 seconds).
        vad : voice activity detector: "energy", or "silero" if its package is installed.
        gate : whether the model is spared recordings in which nothing stands out of silence and noise; their
            answer has `no_speech`. Without it short ones are answered, too.
        channels : what is heard of several: "mix" (their mean), "left", "right", or "split", which asks about
            each on its own (`Response.by_channel`).
        probabilities : also compute the probability of each label among those of its set.
        confidence : also how sure the model is of each answer and word (inference/confidence.py).
        progress : called with the seconds of finished recordings.
        """
        from mindspore_osum.inference.respond import respond

        if confidence:
            sampling = replace(sampling or Sampling(), confidence=True)
        return respond(
            self.engine,
            audios,
            requests,
            sampling=sampling,
            batch_size=batch_size,
            max_seconds=max_seconds,
            vad=vad,
            gate=gate,
            channels=channels,
            probabilities=probabilities,
            progress=progress,
        )

    def stream(
        self,
        audio,
        request: str | None = None,
        *,
        task: str | None = None,
        sampling: Sampling | None = None,
        max_seconds: float = MAX_SECONDS,
        vad: str = "energy",
        gate: bool = True,
    ) -> Iterator[str]:
        """Yield the answer to one recording as it is generated; the joined pieces equal ``response.raw``."""
        inquiry = Inquiry(audio, _requests(request, task, None), max_seconds, vad, gate)
        for n, question in enumerate(inquiry.questions()):
            if n:
                yield "\n"
            try:
                yield from stream(self.engine, question, sampling)
            except UserError as error:
                raise UserError(f"{name_of(audio)}: {error}") from None

    def inputs(self, audio, request: str | None = None, *, task: str | None = None) -> dict:
        """The named inputs of the model for recordings and a request, as `logits` takes them.

        Names, types and meanings are those of the columns of a training batch (for OSUM see
        systems/osum/extractor.py). Rows are padded on the right: `segments_BL` is 0 there. Lengths are
        rounded up, so that few static shapes serve all (models/buckets.py).

        Parameters
        ----------
        audio : a recording as in a call, or its log-mel as a float32 array (T, F); or several of them, one
            per row.
        request, task : the request, as in a call; by default for the transcript.

        Returns
        -------
        dict of arrays; those of the audio are None for a request without recording.

        Raises
        ------
        UserError : an invalid request, or a recording that cannot be read or is too long for the model.
        """
        (asked,) = _requests(request, task, None)
        asked = replace(asked, force_tags=False)  # a prompt as in training, without any of the answer
        one = hasattr(audio, "__array__") or _is_one(audio)
        prompts = [self.engine.prompt(source, asked)[0] for source in ([audio] if one else audio)]
        return self.engine.generator.parts.columns(prompts)

    def logits(self, inputs: dict):
        """Logits of the next token at every position, float32 (B, L, V), without a KV cache.

        The last position of a prompt has the logits of the answer's first token, before any penalty.

        Parameters
        ----------
        inputs : from `inputs`; values may be changed, names and types may not.
        """
        generator = self.engine.generator
        return generator.compute(generator.logits, inputs.values()).asnumpy()

    def encode(self, audio) -> dict:
        """Outputs of the parts before the decoder for recordings, by name, and their lengths without padding.

        For OSUM "encoder_BUE" and "encoder_len_B" (frames of the encoder), "adapter_BZD" and "adapter_len_B"
        (speech tokens in the decoder's width).

        Parameters
        ----------
        audio : as in `inputs`.

        Raises
        ------
        UserError : as in `inputs`, or a model that does not give these outputs.
        """
        generator, inputs = self.engine.generator, self.inputs(audio)
        parts = generator.parts
        if parts.encode is None:
            raise UserError(f"{self.engine.cfg.model_type}: this system shows nothing before the decoder")
        outputs = generator.compute(parts.encode, [inputs[name] for name in parts.encode_columns])
        return {name: x.asnumpy() for name, x in zip(parts.encode_names, outputs, strict=True)}

    @property
    def model(self):
        """The network, a `mindspore.nn.Cell` in evaluation mode, for uses beyond these methods."""
        return self.engine.generator.model

    def live(
        self,
        source,
        request: str | None = None,
        *,
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        raw_rate: int | None = None,
        idle: float = 5.0,
        **settings,
    ) -> Iterator["Heard"]:
        """Yield results while somebody speaks: preliminary ones, and a final one at each pause.

        Parameters
        ----------
        source : "mic"; a file that is being written, or a named pipe; a binary file object such as
            ``sys.stdin.buffer``; or an iterable of waveforms, float32 (N,) at 16 kHz.
        request, task, tasks : the request for each utterance; by default its transcript.
        raw_rate : the source is raw 16-bit samples at this rate.
        idle : seconds without growth after which a file is complete; 0: never.
        settings : `every`, `pause`, `max_seconds` and `vad` of `streaming.live.LiveSettings`.

        Yields
        ------
        Heard, with `final` and `segment`; times count from the start of the stream.

        Raises
        ------
        UserError : an invalid setting, no such source, or a stream that is not PCM.
        """
        from mindspore_osum.streaming.live import Live, LiveSettings, listen
        from mindspore_osum.streaming.sources import stream_of

        live = Live(self.engine, _requests(request, task, tasks), LiveSettings(**settings), sampling)
        return listen(live, stream_of(source, raw_rate, idle))


def _requests(
    request: str | None,
    task: str | None,
    tasks: Sequence[str] | None,
    hotwords: str | Sequence[str] = (),
) -> list[Request]:
    if tasks is None:
        return [make_request(task, request, hotwords)]
    if request is not None or task is not None:
        raise UserError("tasks exclude a request in words and a single task: give one of the three")
    return plan([tasks] if isinstance(tasks, str) else tasks, hotwords=hotwords)


def _is_one(audio) -> bool:
    """Whether this is a single recording."""
    if isinstance(audio, tuple):
        return len(audio) == 2 and isinstance(audio[1], numbers.Real)  # (array, rate)
    if hasattr(audio, "__array__"):
        raise UserError("an array does not say its rate: give a tuple (array, rate)")
    single = (str, os.PathLike, bytes, bytearray, memoryview)
    return isinstance(audio, single) or hasattr(audio, "read") or not isinstance(audio, Iterable)
