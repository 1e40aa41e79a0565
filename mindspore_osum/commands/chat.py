"""`osum chat`: turns with a model, spoken or typed, over plain standard input and output.

Notable choices
- A turn is a line: words alone are a chat in words; a recording's path is a spoken turn, and words after it
  are the request about it.
- The model sees the turns before. A recording begins anew: there is one in all, and a model that was trained
  on single turns hears it worse after others. What would leave no positions for the longest reply drops the
  oldest turn.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace

from mindspore_osum.commands.arguments import add_model_arguments, add_new_tokens
from mindspore_osum.commands.console import clean_stdout, load_model, say
from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Exchange, exchange
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.speech.audio import duration_seconds
from mindspore_osum.speech.long import MAX_SECONDS
from mindspore_osum.tasks import TEXT2TEXT

EXAMPLES = """\
examples:
  osum chat --model DIR
    > what is the weather like today          words: a reply
    > question.wav                            a spoken turn: a reply to what is said
    > and how old is the speaker              about the same recording
    > /new                                    forget what was said
    > a.wav 谁在说话，多大年纪？                 a request about a recording
    > 'my talk.wav' <asr><align>              quotes around spaces; tags are requests, too
    > /mic                                    speak; a pause ends the turn
  printf 'a.wav What does the speaker say?\\n' | osum chat
"""
HELP = (
    "a line is a turn: words, a recording, or a recording and a request; /mic to speak, /new to begin anew, "
    "/quit to end"
)
MIC, NEW, QUIT = "/mic", "/new", "/quit"


def add_arguments(parser) -> None:
    """The arguments of `osum chat`."""
    add_model_arguments(parser, batch_size=None)
    add_new_tokens(parser, "longest reply, in tokens")


def run(args) -> int:
    """Talk until /quit or the end of the input; 0, or 1 if a turn failed and input is no terminal."""
    from mindspore_osum.inference.sampling import Sampling

    sampling, person, failed = Sampling(max_new_tokens=args.max_new_tokens), sys.stdin.isatty(), 0
    sys.stdin.reconfigure(errors="replace")
    with clean_stdout() as stdout:
        model = load_model(args)
        say(HELP)
        talk = Talk(model, sampling)
        for line in _lines(person):
            try:
                for piece in _turn(talk, line):
                    print(piece, end="", file=stdout, flush=True)
            except UserError as error:
                failed += 1
                say(str(error))
    return 1 if failed and not person else 0


def _lines(person: bool) -> Iterator[str]:
    """The typed lines, until the end or /quit; empty lines are skipped."""
    while True:
        try:
            line = (input("> ") if person else _next_line()).strip()
        except EOFError:
            return
        if line == QUIT:
            return
        if line:
            yield line


def _next_line() -> str:
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line


def _turn(talk: "Talk", line: str) -> Iterator[str]:
    """Show a turn; a truncated reply is reported on standard error, below it."""
    if line == NEW:
        talk.begin()
        say("what was said is forgotten")
        return
    cut = yield from talk.reply(line)
    yield "\n"
    if cut:
        say("the reply was truncated at its limit")


class Talk:
    """A conversation.

    Attributes
    ----------
    turns : those that the model sees before the next one.
    """

    def __init__(self, model, sampling):
        self.model, self.sampling = model, sampling
        self.begin()

    def begin(self) -> None:
        """Forget all turns."""
        self.turns: list[Exchange] = []
        self._audio, self._seconds = None, 0.0  # what one of the turns is about

    def reply(self, line: str) -> Iterator[str]:
        """The reply to a line, piece by piece where it is words only.

        The generator's return value (the value of ``yield from``) is whether the reply was truncated.

        Raises
        ------
        UserError : what is wrong with the recording or the request.
        """
        if line == MIC:
            found = _heard(), None
        elif (found := _recording(line)) is None and line.startswith("/"):
            raise UserError(f"{line.split()[0]}: no such command; {HELP}")
        audio, words = found or (None, line)
        if audio is None:
            request = Request(words, "text2text", TEXT2TEXT)
        else:
            request = make_request(None if words else "sttc", words)
        return (yield from self._answered(request, words, audio))

    def _answered(self, request: Request, words: str | None, audio) -> Iterator[str]:
        """The reply to a request about a new recording, or (None) in words, which is kept as a turn."""
        kept = self.turns, self._audio, self._seconds
        try:
            if audio is not None:
                self._hear(audio)
            request = self._fitting(request)
            if self._audio is None:
                response = yield from self.model.engine.stream("words", request, self.sampling)
            else:
                (response,) = self.model.each([self._audio], [request], sampling=self.sampling)
                if response.error:
                    raise UserError(response.error)
                yield shown(response)
        except UserError:
            self.turns, self._audio, self._seconds = kept
            raise
        if response.raw:  # nothing if nobody speaks
            self.turns = [*self.turns, exchange(words, response.raw, audio is not None)]
        return response.cut

    def _hear(self, audio) -> None:
        """A new recording, which is the only one from here on."""
        seconds = duration_seconds(audio)
        if self.turns:
            say("a new recording: what was said before is left out")
            self.turns = []
        self._audio, self._seconds = audio, min(seconds, MAX_SECONDS)

    def _has_recording(self) -> bool:
        """Whether a turn has the recording: then the first one, as recordings begin anew."""
        return bool(self.turns) and self.turns[0].output_type != "text2text"

    def _fitting(self, request: Request) -> Request:
        """The request with as many turns before it as leave positions for the longest reply."""
        own = request.output_type != "text2text"
        while True:
            if not own and not self._has_recording():
                self._audio, self._seconds = None, 0.0
            # with a recording in an earlier turn, words may ask for a task about it
            task = None if self._audio is not None and not own else request.task
            asked = replace(request, task=task, history=tuple(self.turns))
            try:
                enough = self.model.engine.room(asked, self._seconds) >= self.sampling.max_new_tokens
            except UserError:
                enough = False
            if enough or not self.turns:
                return asked
            what = ", with its recording," if self._has_recording() else ""
            say(f"the model has no positions left: the oldest turn{what} is left out")
            self.turns = self.turns[1:]


def _recording(line: str) -> tuple[str, str | None] | None:
    """(path, request) of a line that begins with a file or has one's suffix, else None."""
    from mindspore_osum.commands.inputs import SUFFIXES

    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        first = lexer.get_token()
    except ValueError:  # an apostrophe, not a quote: the line is words
        return None
    words = lexer.instream.read().strip()
    if first and (os.path.isfile(first) or os.path.splitext(first)[1].lower() in SUFFIXES):
        return first, words or None
    return None


def shown(response) -> str:
    """A response as shown in a conversation: words, labels, reply."""
    labels = " ".join(f"<{value}>" for value in response.labels.values())
    times = " ".join(f"{w.text} ({w.start:.2f}-{w.end:.2f})" for w in response.words)
    return "\n".join(filter(None, [times or response.text, labels, response.answer]))


def _heard():
    """The next utterance that the microphone hears, as (wave_N, rate)."""
    from mindspore_osum.speech.audio import SAMPLE_RATE
    from mindspore_osum.speech.long import chunks_of
    from mindspore_osum.streaming.sources import MICROPHONE, stream_of

    waves = stream_of(MICROPHONE)
    say("listening")
    chunk = next(chunks_of(waves), None)
    if chunk is None:
        raise UserError("nothing was heard")
    return chunk.wave_N, SAMPLE_RATE
