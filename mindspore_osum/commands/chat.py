"""`osum chat`: turns with a model, spoken or typed, over plain standard input and output.

Notable choices
- A turn is a line: words alone are a chat in words; a recording's path is a spoken turn, and words after it
  are the request about it.
- The model takes one turn: it does not see earlier turns.
"""

import os
import shlex
import sys
from collections.abc import Iterator

from mindspore_osum.commands.arguments import add_model_arguments, add_new_tokens
from mindspore_osum.commands.console import clean_stdout, load_model, say
from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum chat --model DIR
    > what is the weather like today          words: a reply
    > question.wav                            a spoken turn: a reply to what is said
    > a.wav 谁在说话，多大年纪？                 a request about a recording
    > 'my talk.wav' <asr><align>              quotes around spaces; tags are requests, too
    > /mic                                    speak; a pause ends the turn
  printf 'a.wav What does the speaker say?\\n' | osum chat
"""
HELP = (
    "a line is a turn, answered without those before it: words, a recording, or a recording and a request; "
    "/mic to speak, /quit to end"
)
MIC, QUIT = "/mic", "/quit"


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
        for line in _lines(person):
            try:
                for piece in _turn(model, line, sampling):
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


def _turn(model, line: str, sampling) -> Iterator[str]:
    """Show a turn; a truncated reply is reported on standard error, below it."""
    cut = yield from reply(model, line, sampling)
    yield "\n"
    if cut:
        say("the reply was truncated at its limit")


def reply(model, line: str, sampling) -> Iterator[str]:
    """The reply to a line, piece by piece where it is words only.

    The generator's return value (the value of ``yield from``) is whether the reply was truncated.

    Raises
    ------
    UserError : what is wrong with the recording or the request.
    """
    if line == MIC:
        return (yield from _spoken(model, _heard(), None, sampling))
    if (found := _recording(line)) is not None:
        return (yield from _spoken(model, *found, sampling))
    if line.startswith("/"):
        raise UserError(f"{line.split()[0]}: no such command; {HELP}")
    return (yield from _typed(model, line, sampling))


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


def _spoken(model, audio, words: str | None, sampling) -> Iterator[str]:
    """The answer about a recording; without a request, the reply to the speech."""
    response = model(audio, words, task=None if words else "sttc", sampling=sampling)
    yield shown(response)
    return response.cut


def shown(response) -> str:
    """A response as shown in a conversation: words, labels, reply."""
    labels = " ".join(f"<{value}>" for value in response.labels.values())
    times = " ".join(f"{w.text} ({w.start:.2f}-{w.end:.2f})" for w in response.words)
    return "\n".join(filter(None, [times or response.text, labels, response.answer]))


def _typed(model, words: str, sampling) -> Iterator[str]:
    from mindspore_osum.inference.request import Request
    from mindspore_osum.tasks import TEXT2TEXT

    response = yield from model.engine.stream("words", Request(words, "text2text", TEXT2TEXT), sampling)
    return response.cut


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
