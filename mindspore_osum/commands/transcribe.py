"""`osum transcribe`: recordings of any length to text, subtitles or time-aligned words."""

import contextlib
import json
import os
from functools import partial
from pathlib import Path

from mindspore_osum.commands import transcribe_stream as streaming
from mindspore_osum.commands.arguments import add_resume
from mindspore_osum.commands.console import clean_stdout, failures, load_model, resumable, say
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
  arecord -f S16_LE -r 16000 -d 10 | osum transcribe - --format vtt
  arecord -f S16_LE -r 16000 | osum transcribe --stream -        # while you speak; Ctrl-C ends it
  osum transcribe --stream growing.wav                           # a file that is being written
"""
ONE_EACH = ("srt", "vtt", "tsv", "textgrid")  # formats of which one file can hold only one transcript


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
        "--task", default="srwt", help="what the model is asked: srwt (default; words with times) or asr"
    )
    _add_cues(parser)
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
    if args.stream is not None:
        return streaming.run(args)
    streaming.check_absent(args)
    if not args.audio:
        raise UserError("no recordings: give files, folders, 'patterns*.wav', - or --stream")
    from mindspore_osum.inference.request import make_request
    from mindspore_osum.subtitles import SETTINGS, check_format, check_settings

    formats = [check_format(name.strip()) for name in args.format.lower().split(",")]
    cues = check_settings(formats, {name: getattr(args, name) for name in SETTINGS})
    requests, how = [make_request(args.task, hotwords=args.hotwords)], settings(args)
    if args.highlight_words and "<ALIGN>" not in requests[0].task:
        raise UserError(
            f"--highlight-words needs times of words, and {args.task} gives none: take --task srwt"
        )
    sources = expand(args.audio)
    targets = _targets(args, [name_of(source) for source in sources], formats)
    if args.resume:
        sources = [s for s in sources if not all(path.exists() for path in targets[name_of(s)].values())]
        say(f"{len(targets) - len(sources)} of {len(targets)} are there already")
    if not sources:
        return 0
    failed: list[str] = []
    hint = resumable() if args.output else contextlib.nullcontext()
    with hint, clean_stdout() as stdout:
        model = load_model(args)
        show = partial(_show, stdout=stdout, title=len(targets) > 1)
        with progress(sources) as done:
            for response in model.each(sources, requests, progress=done, **how):
                done.clear()
                if problem := response.error or _write(response, targets[response.audio], show, cues):
                    failed.append(problem)
                elif response.cut:
                    say(f"{response.audio}: an answer was truncated at its limit")
    return failures(failed)


def _targets(args, names: list[str], formats: list[str]) -> dict[str, dict[str, Path | None]]:
    """Recording -> format -> file, None for standard output; refuses what would overwrite each other."""
    from mindspore_osum.subtitles import SUFFIXES

    if args.output is None:
        if args.resume:
            raise UserError("--resume continues the files of --output DIR; give it")
        if len(formats) > 1 or len(names) > 1 and formats[0] in ONE_EACH:
            raise UserError(f"{args.format} of {len(names)} recordings needs files: give --output DIR")
        return {name: {formats[0]: None} for name in names}
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot make the folder ({error.strerror})") from None
    roots = [Path(name) for name in args.audio if os.path.isdir(name)]
    targets, owner = {}, {}
    for name in names:
        stem = _stem(name, roots)
        if stem in owner:
            raise UserError(
                f"{owner[stem]} and {name}: both would be written to {folder / stem}.*; "
                "transcribe them into two folders"
            )
        owner[stem] = name
        targets[name] = {f: (folder / stem).with_name(Path(stem).name + SUFFIXES[f]) for f in formats}
    return targets


def _stem(name: str, roots: list[Path]) -> str:
    """Where the files of a recording are, below --output and without suffix: mirroring its folder."""
    if name == STDIN:
        return "stdin"
    path = Path(name)
    for root in roots:
        if path.is_relative_to(root):
            return str(path.relative_to(root).with_suffix(""))
    return path.stem


def _write(response: Response, targets: dict[str, Path | None], show, cues: dict[str, dict]) -> str | None:
    """Write all formats of one response, each with its settings of cues; returns the errors."""
    from mindspore_osum.files import write_text
    from mindspore_osum.subtitles import write

    try:
        for format, path in targets.items():
            text = write(response, format, **cues[format])
            if path is None:
                show(response, format, text)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path or 'standard output'}: cannot write there ({error.strerror})"
    return None


def _show(response: Response, format: str, text: str, stdout, title: bool) -> None:
    """To standard output: JSON as one line for a program, text under the recordings' names for a person."""
    if format == "json":
        text = json.dumps(json.loads(text), ensure_ascii=False) + "\n"
    elif format == "txt" and title:
        text = f"{response.audio}:\n{text}"
    print(text, end="", file=stdout, flush=True)
