"""The library in one class.

    from mindspore_osum import OSUM

    m = OSUM.load("folder")                               # or "tiny", the bundled model
    r = m("a.wav", "谁在说话，多大年纪？")
    print(r.text, r.labels, r.words)

Notable choices
- Long recordings need no special call: they are split at pauses, and their response has several segments.
- A single recording that cannot be read raises; among several, its response has an `error`.
- Settings are named arguments, which `help` and completion show.
"""

import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING

from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import history_of
from mindspore_osum.inference.inquiry import Inquiry, name_of, stream
from mindspore_osum.inference.passes import plan
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import ANSWERS, SAMPLING, Sampling
from mindspore_osum.interrupts import steady
from mindspore_osum.quiet import quiet_libraries
from mindspore_osum.results import Response
from mindspore_osum.settings import Setting, with_settings
from mindspore_osum.speech.long import MAX_SECONDS
from mindspore_osum.tasks import TASKS

if TYPE_CHECKING:
    from mindspore_osum.streaming.live import Heard

GIVE = "give a path, bytes, a binary file object or a tuple (array, rate), or several of them in a list"
_GENERATION = {
    name: Setting(getattr(Sampling(), name), about) for name, about in (SAMPLING | ANSWERS).items()
} | {"sampling": Setting(None, "a `Sampling`; settings of generation that are given by name go before its")}
_SPLITTING = {
    "max_seconds": Setting(
        MAX_SECONDS, "longer recordings are split at pauses into chunks up to this length (1 to 60 seconds)"
    ),
    "vad": Setting("energy", 'finds the speech: "energy", or "silero" if its package is installed'),
}
_LONG = {
    "long": Setting(
        "",
        'how recordings are read that are too long for the model: "pauses", in parts between pauses, or '
        '"seek", of a Whisper, as openai-whisper does: each window begins where the words of the last one '
        "end; by default as is usual for the model, or between pauses if `max_seconds` is given",
    ),
    "condition_on_previous_text": Setting(
        True, "of seeking: the model reads what it wrote before a window, unless that was drawn above 0.5"
    ),
}
_BATCHES = {
    "channels": Setting(
        "mix", 'what is heard of several: "mix", "left", "right", or "split", each on its own (`by_channel`)'
    ),
    "batch_size": Setting(8, "recordings, or chunks of them, computed together"),
    "probabilities": Setting(False, "also compute the probability of each label among those of its set"),
    "progress": Setting(None, "called with the seconds of finished recordings"),
}
_GATE = {
    "gate": Setting(
        True, "a recording in which nothing stands out of silence and noise is not answered: `no_speech`"
    )
}
_ALL = _GENERATION | _SPLITTING | _LONG | _GATE | _BATCHES
_WORDS = {
    "hotwords": Setting((), "names and terms that may be said, a list or a text with commas between them"),
    "language": Setting(
        "", "of what is said, a code or an English name, for a Whisper; by default it detects it"
    ),
    "translate": Setting(False, "have a transcript in English, of a Whisper"),
    "prompt": Setting("", "of a Whisper: words as if they had been said before the recording"),
    "word_times": Setting(False, "of a Whisper: also the times of words"),
}
_LIVE = {
    "every": Setting(1.0, "seconds of new speech between two preliminary results; 0: final ones only"),
    "pause": Setting(0.5, "seconds without speech that end an utterance"),
}


class OSUM:
    """A speech understanding model. Create it with `OSUM.load`; use it in one thread at a time.

    Attributes
    ----------
    engine : the inference engine, with the model's config, tokenizer and prompts.
    """

    def __init__(self, engine):
        self.engine = engine

    def __repr__(self) -> str:
        return f"<OSUM {self.engine.folder} on {self.engine.device}>"

    @classmethod
    @with_settings({})
    def load(
        cls,
        folder: str | os.PathLike = "tiny",
        device: str = "auto",
        waiting=None,
        merge_lora: bool = True,
    ) -> "OSUM":
        """Load a model folder, or "tiny" for the bundled model, on "CPU", "Ascend" or "auto".

        Parameters
        ----------
        waiting : called with what is waited for, see `Engine`.
        merge_lora : add LoRA adapters to their weights while loading, which answers faster; files are not
            changed.

        Raises
        ------
        UserError : no such folder, not a model folder, or an unavailable device.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise UserError(f"model of type {type(folder).__name__}: give a folder or a name")
        quiet_libraries()
        with steady():
            from mindspore_osum.inference.engine import Engine
        return cls(Engine(folder, device, waiting, merge_lora))

    @with_settings(_ALL)
    def __call__(
        self,
        audio,
        request: str | None = None,
        *,
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        hotwords: str | Sequence[str] = (),
        language: str = "",
        translate: bool = False,
        prompt: str = "",
        word_times: bool = False,
        system: str | None = None,
        history: Sequence[Mapping[str, str]] = (),
        **settings,
    ) -> Response | list[Response]:
        """Answer a request about recordings; without a request, transcribe.

        Parameters
        ----------
        audio : a recording of any length: path, bytes, binary file object or tuple (array, rate); or several
            of them, for a list of responses.
        request : in plain words, in any language of the model.
        task : instead of `request`: an abbreviation ("sap") or a published key.
        tasks : instead of `request`: several tasks in a list or with commas between them, in as few passes as
            the published keys allow (see `passes.plan`).
        hotwords : names and terms that may be said, a list or a text with commas between them.
        language : of what is said, a code or an English name, for a Whisper; by default it detects it.
        translate : have a transcript in English, of a Whisper.
        prompt : words as if they had been said before the recording, of a Whisper.
        word_times : also the times of words, of a Whisper.
        system : a system message, instead of the text that the model was trained with.
        history : the turns before in order, each ``{"role": "user" or "assistant", "content": text}``.
            "<audio>" in a user's text is where the recording was given; else it is given with the request.
        settings :

        Raises
        ------
        UserError : an invalid request or setting, or a single recording that cannot be used.
        """
        words = {"hotwords": hotwords, "language": language, "translate": translate}
        words |= {"prompt": prompt, "word_times": word_times}
        requests = _after(_requests(request, task, tasks, **words), system, history)
        if not _is_one(audio):
            return list(self.each(audio, requests, **settings))
        (response,) = self.each([audio], requests, **settings)
        if response.error:
            raise UserError(response.error)
        return response

    @with_settings(_WORDS | _ALL)
    def annotate(self, audio, **settings) -> Response | list[Response]:
        """All eight tasks as one annotation: transcript, words with times, five labels and a reply.

        Parameters
        ----------
        audio : one or several recordings, as in a call.
        settings :
        """
        return self(audio, tasks=tuple(TASKS), **settings)

    @with_settings(_WORDS | _ALL)
    def transcribe(self, audio, **settings) -> Response | list[Response]:
        """Words with times.

        Parameters
        ----------
        audio : one or several recordings, as in a call.
        settings :
        """
        return self(audio, task="srwt", **settings)

    @with_settings(_ALL)
    def each(self, audios: Iterable, requests: Sequence[Request], **settings) -> Iterator[Response]:
        """Yield one response after the other, in order, for more recordings than fit in memory.

        Parameters
        ----------
        audios : recordings, each as in a call.
        requests : what is asked about each, from `make_request` or `plan`.
        settings :
        """
        from mindspore_osum.inference.respond import respond

        if isinstance(requests, str | Request) or not all(isinstance(r, Request) for r in requests):
            raise UserError("requests of each: give a list of what `make_request` or `plan` returns")
        usual = {name: setting.default for name, setting in (_GATE | _LONG).items()}
        sampling, settings = _sampling(settings), usual | settings
        return respond(self.engine, _present(audios), requests, sampling=sampling, **settings)

    @with_settings(_GENERATION | _SPLITTING | _GATE)
    def stream(
        self,
        audio,
        request: str | None = None,
        *,
        task: str | None = None,
        system: str | None = None,
        history: Sequence[Mapping[str, str]] = (),
        **settings,
    ) -> Iterator[str]:
        """Yield the answer to one recording as it is generated; the joined pieces equal ``response.raw``.

        Parameters
        ----------
        audio : one recording, as in a call.
        request, task, system, history : the request, as in a call.
        settings :
        """
        if not _is_one(audio):
            raise UserError("several recordings: stream answers one; give them one after the other")
        sampling, settings = _sampling(settings), {"gate": _GATE["gate"].default} | settings
        requests = _after(_requests(request, task, None), system, history)
        inquiry = Inquiry(audio, requests, **settings)
        return self._streamed(inquiry, sampling)

    def _streamed(self, inquiry: Inquiry, sampling: Sampling | None) -> Iterator[str]:
        for n, question in enumerate(inquiry.questions()):
            if n:
                yield "\n"
            try:
                yield from stream(self.engine, question, sampling)
            except UserError as error:
                raise UserError(f"{name_of(inquiry.source)}: {error}") from None

    @with_settings({})
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
        return generator.compute(generator.logits, inputs.values())

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
        return dict(zip(parts.encode_names, outputs, strict=True))

    @property
    def model(self):
        """The network, a `mindspore.nn.Cell` in evaluation mode, for uses beyond these methods; in the form
        for answering, without adapters (see `load`)."""
        return self.engine.generator.model

    @with_settings(_GENERATION | _SPLITTING | _LIVE)
    def live(
        self,
        source,
        request: str | None = None,
        *,
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        hotwords: str | Sequence[str] = (),
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
        hotwords : names and terms that may be said, a list or a text with commas between them.
        raw_rate : the source is raw 16-bit samples at this rate.
        idle : seconds without growth after which a file is complete; 0: never.
        settings :

        Yields
        ------
        Heard, with `final` and `segment`; times count from the start of the stream.

        Raises
        ------
        UserError : an invalid setting, no such source, or a stream that is not PCM.
        """
        from mindspore_osum.streaming.live import Live, LiveSettings, listen
        from mindspore_osum.streaming.sources import stream_of

        sampling, notes = _sampling(settings), []
        requests = _requests(request, task, tasks, hotwords)
        live = Live(self.engine, requests, LiveSettings(**settings), sampling, notes)
        return listen(live, stream_of(source, raw_rate, idle, notes))


def _sampling(settings: dict) -> Sampling | None:
    """The settings of generation, taken out of `settings`; None for the default."""
    sampling = settings.pop("sampling", None)
    if not isinstance(sampling, Sampling | None):
        raise UserError(f"sampling of type {type(sampling).__name__}: give a Sampling, or settings by name")
    named = {name: settings.pop(name) for name in _GENERATION if name in settings}
    return replace(sampling or Sampling(), **named) if named else sampling


def _requests(
    request: str | None,
    task: str | None,
    tasks: Sequence[str] | None,
    hotwords: str | Sequence[str] = (),
    **words,
) -> list[Request]:
    for name, value in {"request": request, "task": task}.items():
        if not isinstance(value, str | None):
            several = "; several tasks are given as `tasks`" if name == "task" else ""
            raise UserError(f"{name} of type {type(value).__name__}: give text{several}")
    if request is not None and len(request) < 4096 and os.path.isfile(request):
        raise UserError(f"the request {request!r} is a file; several recordings are given as a list")
    if tasks is None:
        return [make_request(task, request, hotwords, **words)]
    if request is not None or task is not None:
        raise UserError("tasks exclude a request in words and a single task: give one of the three")
    named = isinstance(tasks, Iterable) and not isinstance(tasks, Mapping)
    tasks = tasks.split(",") if isinstance(tasks, str) else list(tasks) if named else [tasks]
    for one in tasks:
        if not isinstance(one, str):
            raise UserError(f'tasks: {one!r} is no task; give names in a list, as ["asr", "gender"]')
    planned = plan([task.strip() for task in tasks], hotwords=hotwords)
    return [replace(one, **words) for one in planned]


def _after(
    requests: list[Request], system: str | None, history: Sequence[Mapping[str, str]]
) -> list[Request]:
    """The requests with what was said before them."""
    if not isinstance(system, str | None):
        raise UserError(f"system of type {type(system).__name__}: give text")
    turns = history_of(history)
    heard = any(turn.output_type != "text2text" for turn in turns)
    requests = [replace(one, system=system, history=turns) for one in requests]
    return [replace(one, output_type="text2text") for one in requests] if heard else requests


def _present(audios: Iterable) -> Iterator:
    """The recordings; None, which means words alone to the engine, is none."""
    for number, audio in enumerate(audios):
        if audio is None:
            raise UserError(f"recording {number} of the list is None: {GIVE}")
        yield audio


def _is_one(audio) -> bool:
    """Whether this is a single recording, or else several; UserError if it can be neither."""
    single = (str, os.PathLike, bytes, bytearray, memoryview)
    if isinstance(audio, single) or hasattr(audio, "read"):
        return True
    if isinstance(audio, tuple) and len(audio) == 2:
        if any(_is_number(part) or hasattr(part, "__array__") for part in audio):
            return True  # (array, rate), whose mistakes are reported where it is read
    kind = type(audio).__name__
    if hasattr(audio, "__array__"):
        raise UserError(f"{kind} of samples: an array does not say its rate; give a tuple (array, rate)")
    if isinstance(audio, Mapping | Set) or not isinstance(audio, Iterable):
        of_dataset = isinstance(audio, Mapping) and "array" in audio
        hint = "give (audio['array'], audio['sampling_rate'])" if of_dataset else GIVE
        raise UserError(f"audio of type {kind}: {hint}")
    if isinstance(audio, Sequence) and audio and (_is_number(audio[0]) or _is_pair(audio)):
        raise UserError(f"a {kind} of numbers does not say its rate: give a tuple (array, rate)")
    return False


def _is_pair(audio: Sequence) -> bool:
    """Whether this is an array and its rate."""
    return len(audio) == 2 and hasattr(audio[0], "__array__") and _is_number(audio[1])


def _is_number(value) -> bool:
    return isinstance(value, numbers.Number)
