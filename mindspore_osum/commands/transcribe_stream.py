"""`osum transcribe --stream`: live transcription, on a terminal or as JSON lines."""

import json
import os
import signal
import sys
import threading
from functools import partial

from mindspore_osum.commands.arguments import BATCH_SIZE, answer_settings
from mindspore_osum.commands.console import clean_stdout, load_model, say, width
from mindspore_osum.commands.inputs import STDIN
from mindspore_osum.errors import UserError
from mindspore_osum.results import clock

OF_WHISPER = ("transcribe", "translate")  # tasks by the names that openai-whisper gives them
CLEAR = "\r\x1b[K"  # to the beginning of the line, and nothing on it
# options of files that are complete
OTHERS = (
    "output",
    "resume",
    "no_gate",
    "max_line_width",
    "max_lines",
    "max_words",
    "highlight_words",
    "long",
    "no_condition_on_previous_text",
)
SECONDS = {  # option -> default, what it is
    "every": (1.0, "seconds of new speech between partial answers; 0: final ones only"),
    "pause": (0.5, "seconds that end an utterance"),
    "idle": (5.0, "a file that has not grown for so many seconds is complete; 0: never"),
}


def add_arguments(parser) -> None:
    """The arguments of a stream, for the parser of `osum transcribe`."""
    stream = parser.add_argument_group("a stream", "partial answers while it comes, final ones at each pause")
    stream.add_argument(
        "--stream",
        metavar="FILE|-|mic",
        help="listen to a wav file that is being written, a pipe, - for standard input, or the microphone",
    )
    stream.add_argument("--raw", type=int, metavar="RATE", help="the stream is bare 16-bit samples, mono")
    for name, (value, what) in SECONDS.items():
        stream.add_argument(f"--{name}", type=float, metavar="S", help=f"{what} (default {value:g})")


def request_of(args, usual: str):
    """The request of a transcript; `usual` is the task that is asked without --task."""
    from mindspore_osum.inference.request import make_request

    task = None if args.task in OF_WHISPER else args.task
    how = {"language": args.language, "translate": args.task == "translate"}
    how |= {"prompt": args.prompt, "word_times": args.word_times}
    return make_request(task or usual, hotwords=args.hotwords, **how)


def check_absent(args) -> None:
    """Refuse the options of --stream without it."""
    if given := [f"--{name}" for name in ("raw", *SECONDS) if getattr(args, name) is not None]:
        raise UserError(f"{', '.join(given)}: for a stream only; give --stream FILE, - or mic")


def run(args) -> int:
    """Listen until the stream ends, or Ctrl-C; 0, or 1 if an utterance could not be answered."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.streaming.live import Live, LiveSettings, listen
    from mindspore_osum.streaming.sources import MICROPHONE, stream_of

    given = [f"--{name.replace('_', '-')}" for name in OTHERS if getattr(args, name)]
    given += ["--channels"] if args.channels != "mix" else []
    given += ["--batch-size"] if args.batch_size != BATCH_SIZE else []
    given += ["recordings"] if args.audio else []
    if given or args.format not in ("txt", "json"):
        raise UserError(
            f"--stream excludes {', '.join(given) or '--format ' + args.format}: it writes lines "
            "to standard output, for a terminal or as JSON (--format json)"
        )
    chosen = {name: getattr(args, name) for name in SECONDS}
    every, pause, idle = (SECONDS[name][0] if value is None else value for name, value in chosen.items())
    if idle < 0 or args.raw is not None and not 1000 <= args.raw <= 384_000:
        raise UserError("--idle must be 0 or more seconds, --raw a rate from 1000 to 384000 Hz")
    if args.idle is not None and args.stream in (STDIN, MICROPHONE):
        raise UserError(f"--idle is for a file that is being written; --stream {args.stream} ends by itself")
    if args.raw is not None and args.stream == MICROPHONE:
        raise UserError("--raw is for bare samples; the microphone has a rate of its own: leave it out")
    person = sys.stdout.isatty() and args.format == "txt"
    if person and args.confidence:
        raise UserError("--confidence is in the JSON lines alone: give --format json")
    settings = LiveSettings(every, pause, args.max_seconds, args.vad)
    sampling = Sampling(max_new_tokens=args.max_new_tokens, **answer_settings(args))
    requests = [request_of(args, "srwt")]
    source = sys.stdin.buffer if args.stream == STDIN else args.stream
    notes: list[str] = []
    waves = stream_of(source, args.raw, idle, notes)
    stop, failed = threading.Event(), 0
    with clean_stdout() as stdout:
        live = Live(load_model(args).engine, requests, settings, sampling, notes)
        show = partial(_terminal, handle=stdout.fileno()) if person else _json
        ends = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, lambda *_: stop.set()) for number in ends}
        say("listening")
        try:
            for heard in listen(live, waves, stop):
                failed += heard.final and heard.segment.error is not None
                print(show(heard), end="", file=stdout, flush=True)
                for line in _warnings(heard):
                    say(line)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 1 if failed else 0


def _warnings(heard) -> list[str]:
    """What is doubtful about a final answer."""
    if not heard.final:
        return []
    return [
        *heard.segment.warnings,
        *(["the answer was truncated at its limit"] if heard.segment.cut else []),
    ]


def _json(heard) -> str:
    return json.dumps(heard.to_dict(), ensure_ascii=False) + "\n"


def _terminal(heard, handle: int) -> str:
    """The last line of the terminal `handle` is written over until it is final; as `txt` of recordings."""
    # descriptor 1 is redirected here, see clean_stdout; a terminal without a size gives 0
    s, columns = heard.segment, max(0, (os.get_terminal_size(handle).columns or 80) - 4)
    # control characters in a model's answer must not reach the terminal
    reply = [f"reply: {s.answer}"] if s.answer is not None else []
    said = " ".join([s.text, *(f"<{value}>" for value in s.labels.values()), *reply]).strip() or s.error or ""
    text = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    if heard.final:
        return f"{CLEAR}{clock(s.start)} - {clock(s.end)}  {text}\n"
    while width(text) > columns:
        text = text[1:]
    return f"{CLEAR}{text} ..."
