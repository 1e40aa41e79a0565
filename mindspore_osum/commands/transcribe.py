"""`osum transcribe`: recordings of any length to text, subtitles or time-aligned words."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mindspore_osum.commands import bulk
from mindspore_osum.commands import transcribe_stream as streaming
from mindspore_osum.commands.arguments import add_engine, add_resume
from mindspore_osum.commands.console import (
    clean_stdout,
    failures,
    interrupted,
    load_model,
    resumable,
    say,
    warn,
)
from mindspore_osum.commands.inputs import (
    STDIN,
    add_listening_arguments,
    expand,
    name_of,
    progress,
    settings,
)
from mindspore_osum.errors import UserError
from mindspore_osum.results import Response

EXAMPLES = """\
examples:
  osum transcribe meeting.mp3                                    # text on standard output
  osum transcribe talks/ --format srt,vtt --output subtitles     # a folder of recordings, two files for each
  osum transcribe talk.mp3 --format srt --max-line-width 32 --max-lines 2 --output subtitles
  osum transcribe 'raw/**/*.flac' --format json --output out --resume
  osum transcribe call.wav --channels split --format srt,json --output out   # call.left.srt, call.right.srt
  osum transcribe talks/ --format srt --output subtitles --resume --engine ray --address head:6379
  arecord -f S16_LE -r 16000 -d 10 | osum transcribe - --format vtt
  arecord -f S16_LE -r 16000 | osum transcribe --stream -        # while you speak; Ctrl-C ends it
  osum transcribe talk.m4a --model openai/whisper-base --format srt --language de --task translate
  osum transcribe --stream growing.wav                           # a file that is being written
"""
ONE_EACH = ("srt", "vtt", "tsv", "textgrid")  # formats of which one file can hold only one recording
PER_CHANNEL = ("srt", "vtt", "tsv")  # and only one of its channels
Target = tuple[str, str, Path | None]  # format, channel ("": all), file (None: standard output)


def add_arguments(parser) -> None:
    """The arguments of `osum transcribe`."""
    add_listening_arguments(parser, nargs="*")
    parser.add_argument(
        "--format",
        default="txt",
        metavar="F[,F...]",
        help="json, txt (default), srt, vtt, tsv, textgrid, ctm or rttm; several comma-separated",
    )
    parser.add_argument("--output", metavar="DIR", help="write a file for each recording and format there")
    add_resume(parser, "whose files are there")
    parser.add_argument(
        "--task",
        help="what the model is asked: asr (default for txt alone) or srwt (words with times; default else); "
        "transcribe, the same, or translate: have it in English, of a Whisper",
    )
    parser.add_argument(
        "--language",
        default="",
        metavar="NAME",
        help="of what is said, code or English name, for a Whisper (default: it detects the language)",
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEXT", help="of a Whisper: words as if said before it"
    )
    parser.add_argument("--word-times", action="store_true", help="of a Whisper: also the times of words")
    _add_cues(parser)
    add_engine(parser)
    streaming.add_arguments(parser)


def _add_cues(parser) -> None:
    cues = parser.add_argument_group("subtitles", "how srt, vtt and tsv are divided")
    cues.add_argument("--max-line-width", type=int, metavar="N", help="columns; Chinese takes two (42)")
    cues.add_argument("--max-lines", type=int, metavar="N", help="lines of a cue (1); not tsv")
    cues.add_argument("--max-words", type=int, metavar="N", help="words of a cue (as many as fit)")
    cues.add_argument(
        "--highlight-words",
        action="store_const",
        const=True,
        help="a cue for each word, which is underlined (<u>); needs times of words; not tsv",
    )


def run(args) -> int:
    """Transcribe; 0, or 1 if a recording failed."""
    on_ray = bulk.on_ray(args, "--output DIR")
    if args.stream is not None:
        if on_ray:
            raise UserError("--stream listens in this process; leave out --engine")
        return streaming.run(args)
    streaming.check_absent(args)
    if not args.audio:
        raise UserError("no recordings: give files, folders, 'patterns*.wav', - or --stream")
    from mindspore_osum.subtitles import SETTINGS, check_format, check_settings

    formats = [check_format(name.strip()) for name in args.format.lower().split(",")]
    cues = check_settings(formats, {name: getattr(args, name) for name in SETTINGS})
    if args.confidence and "json" not in formats:
        raise UserError(f"--confidence is in json alone, not in {args.format}: give --format json")
    usual = "asr" if formats == ["txt"] else "srwt"  # words are heard better without times
    requests, how = [streaming.request_of(args, usual)], settings(args)
    if args.highlight_words and "<ALIGN>" not in requests[0].task and not args.word_times:
        raise UserError(
            f"--highlight-words needs times of words, and {args.task or usual} gives none: take --task srwt, "
            "or --word-times with a Whisper"
        )
    sources = expand(args.audio)
    targets = _targets(args, sources, formats)
    if args.resume:
        sources = [s for s in sources if not all(path.exists() for *_, path in targets[name_of(s)])]
        say(f"{len(targets) - len(sources)} of {len(targets)} are there already")
    if not sources:
        return 0
    if on_ray:
        return _on_ray(args, bulk.Listening(args.model, args.device, requests, how), sources, targets, cues)
    failed: list[str] = []
    hint = resumable("--resume") if args.output else contextlib.nullcontext()
    with hint, clean_stdout() as stdout:
        model = load_model(args)
        model.engine.asked(requests[0])
        show = partial(_show, stdout=stdout, title=len(targets) > 1)
        with progress(sources) as done:
            for response in model.each(sources, requests, progress=done, **how):
                done.clear()
                if problem := response.error or _write(response, targets[response.audio], show, cues):
                    failed.append(problem)
                else:
                    warn(response)
    return failures(failed)


def _on_ray(args, work: bulk.Listening, sources: list, targets: dict[str, list[Target]], cues) -> int:
    """The same files, each when its recording is answered; those that are there are what is done."""
    failed: list[str] = []
    with resumable("--resume"), contextlib.closing(bulk.answered(args, work, sources)) as replies:
        for _, _, responses in replies:
            problems = (r.error or _write(r, targets[r.audio], None, cues) for r in responses)
            failed += filter(None, problems)
    return failures(failed)


def _targets(args, sources: Sequence, formats: list[str]) -> dict[str, list[Target]]:
    """Name of a recording -> what is written; refuses what would overwrite each other."""
    if args.output is None:
        if args.resume:
            raise UserError("--resume continues the files of --output DIR; give it")
        if len(formats) > 1 or len(sources) > 1 and formats[0] in ONE_EACH:
            raise UserError(f"{args.format} of {len(sources)} recordings needs files: give --output DIR")
        if args.channels == "split" and formats[0] in PER_CHANNEL:
            raise UserError(f"{args.format} of each channel needs files: give --output DIR")
        return {name_of(source): [(formats[0], "", None)] for source in sources}
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot make the folder ({error.strerror})") from None
    targets, owner = {}, {}
    for source, stem in zip(sources, _stems(args, sources), strict=True):
        name = name_of(source)
        targets[name] = list(_files_of(source, folder / stem, formats, args.channels))
        for *_, path in targets[name]:
            if owner.setdefault(path, name) != name:
                raise UserError(
                    f"{owner[path]} and {name}: both would be written to {path}; transcribe them into "
                    "two folders"
                )
    return targets


def _files_of(source, stem: Path, formats: list[str], channels: str) -> Iterator[Target]:
    """The files of one recording; where a format holds one channel, a file for each."""
    from mindspore_osum.speech.long import tracks
    from mindspore_osum.subtitles import SUFFIXES

    try:
        found = [*tracks(source, channels)]
    except UserError:  # its response has the reason
        found = [""]
    for form in formats:
        for channel in found if form in PER_CHANNEL else ("",):
            ending = f".{channel}" if channel else ""
            yield form, channel, stem.with_name(stem.name + ending + SUFFIXES[form])


def _stems(args, sources: Sequence) -> list[str]:
    """Where the files of each recording are, below --output: without its ending, where that is enough."""
    roots = [Path(name) for name in args.audio if os.path.isdir(name)]
    whole = [_below(name_of(source), roots) for source in sources]
    stems = ["stdin" if path == Path(STDIN) else str(path.with_suffix("")) for path in whole]
    count = Counter(stems)
    return [str(path) if count[stem] > 1 else stem for path, stem in zip(whole, stems, strict=True)]


def _below(name: str, roots: list[Path]) -> Path:
    """A recording's path in the folder that was given, or its name."""
    path = Path(name)
    return next((path.relative_to(root) for root in roots if path.is_relative_to(root)), Path(path.name))


def _write(response: Response, targets: list[Target], show, cues: dict[str, dict]) -> str | None:
    """Write all formats of one response, each with its settings of cues; returns the errors."""
    from mindspore_osum.files import NoSpace, write_text
    from mindspore_osum.subtitles import write

    try:
        parts = response.by_channel()
        for format, channel, path in targets:
            text = write(parts.get(channel, response), format, **cues[format])
            if path is None:
                show(response, format, text)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
    except NoSpace as error:  # so it would be with all others
        kept = f"; what is done is kept, {interrupted.how}" if interrupted.how else ""
        raise UserError(f"{error}{kept}") from None
    except OSError as error:
        if path is None:
            raise
        return f"{path}: cannot write there ({error.strerror})"
    except UserError as error:
        return str(error)
    return None


def _show(response: Response, format: str, text: str, stdout, title: bool) -> None:
    """To standard output: JSON as one line for a program, text under the recordings' names for a person."""
    if format == "json":
        text = json.dumps(json.loads(text), ensure_ascii=False) + "\n"
    elif format == "txt" and title:
        text = f"{response.audio}:\n{text}"
    print(text, end="", file=stdout, flush=True)
