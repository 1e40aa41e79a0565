"""`osum infer`: recordings in, one JSON object a line (or a table for people) out.

A recording that fails is a line with `error`; the rest is answered, and the exit status is 1.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator

from mindspore_osum.commands import bulk
from mindspore_osum.commands.arguments import (
    add_answer_arguments,
    add_engine,
    add_model_arguments,
    add_resume,
    answer_settings,
)
from mindspore_osum.commands.console import Progress, clean_stdout, failures, load_model, say, warn
from mindspore_osum.commands.inputs import add_channels
from mindspore_osum.commands.jsonl import kept_lines, writing
from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum infer a.wav b.flac --task sap
  osum infer call.wav --channels split --task sgc        # a line for each channel
  osum infer a.wav --instruction "What does the speaker say?" --table
  osum infer --manifest set.jsonl --model DIR --device Ascend --output out.jsonl --resume
  osum infer --manifest set.jsonl --output out.jsonl --engine ray --replicas 8 --address head:6379
  cat a.wav | osum infer - --task asr
"""


def add_arguments(parser) -> None:
    """The arguments of `osum infer` and scripts/infer.py."""
    from mindspore_osum.inference.sampling import SAMPLING, Sampling

    default = Sampling()
    parser.add_argument(
        "audio", nargs="*", help="recordings, folders, 'patterns*.wav', or - for standard input"
    )
    parser.add_argument(
        "--manifest", metavar="FILE.jsonl", help="more recordings: lines of key, wav, txt, task"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--task",
        help="asr, srwt, ved, ser, ssr, sgc, sap, sttc, or a published key (default: a manifest line's own, "
        "asr of a file)",
    )
    asked.add_argument("--instruction", metavar="WORDS", help="the request in your own words")
    add_model_arguments(parser)
    parser.add_argument(
        "--output", metavar="FILE", help="write the JSON lines there instead of standard output"
    )
    add_resume(parser, "that are in --output")
    add_channels(parser)
    parser.add_argument(
        "--table", action="store_true", help="a table to read, as on a terminal, instead of JSON lines"
    )
    add_answer_arguments(parser)
    for name, what in SAMPLING.items():
        value = getattr(default, name)
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(value),
            default=value,
            metavar="N",
            help=f"{what} (default {value})",
        )
    add_engine(parser)


def run(args) -> int:
    """Answer; 0, or 1 if a recording failed (or a `UserError` for what concerns all of them)."""
    from mindspore_osum.commands.table import table
    from mindspore_osum.inference.request import make_request
    from mindspore_osum.inference.sampling import Sampling

    on_ray = bulk.on_ray(args, "--output FILE")
    if on_ray and args.table:
        raise UserError("--table shows answers on a terminal, and --engine ray writes them to --output")
    args.table = args.table or not args.output and sys.stdout.isatty()
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Sampling) if hasattr(args, f.name)}
    sampling = Sampling(**given | answer_settings(args))
    request = make_request(args.task, args.instruction, args.hotwords)  # refused before the model is loaded
    if args.task is None and args.instruction is None:
        request = None  # a manifest line's own
    sources, problems = _sources(args)
    if on_ray:
        kept = bulk.kept_by_jobs(args, _identity, "infer")
    else:
        kept = kept_lines(args.output, _identity, "infer") if args.resume else {}
    if args.resume:
        say(f"{len(kept)} recordings are there already")
        sources = [s for s in sources if _identity({"audio": _name(s), **_key(s), **_channel(s)}) not in kept]
    if on_ray:
        status = _on_ray(args, sources, request, sampling, kept)
        return failures(problems) or status
    with clean_stdout() as stdout, _json_lines(args, kept, stdout) as write:
        shown = []
        for source, response in _responses(args, sources, request, sampling):
            write(_line(source, response))
            if response.error:
                problems.append(response.error)
            if args.table:
                shown.append((source, response))
        if args.table:
            print(table(shown, request), file=stdout, flush=True)
    return failures(problems)


def _on_ray(args, sources: list, request, sampling, kept: dict) -> int:
    work = bulk.Asking(args.model, args.device, sampling, args.batch_size, request)
    pairs = [(source, request or _own_request(source, args.hotwords)) for source in sources]
    return bulk.write_in_parts(args, "infer", work, pairs, kept, lambda pair, found: _line(pair[0], found))


def _sources(args) -> tuple[list, list[str]]:
    """Paths and manifest lines, and what was wrong in the manifest."""
    from mindspore_osum.commands.inputs import expand

    sources, problems = _channels(args, expand(args.audio)), []
    if args.manifest:
        if args.channels != "mix":
            raise UserError("--channels is for recordings; of those of a --manifest the mean is heard")
        from mindspore_osum.data.formats.sources import read_manifest

        utterances, problems = read_manifest(args.manifest)
        sources += utterances
    if not sources:
        raise UserError("no recordings: give files, folders, - or --manifest FILE.jsonl")
    return sources, problems


def _channels(args, sources: list) -> list:
    """The recordings, or a `Track` for each channel that --channels chooses of them."""
    from mindspore_osum.speech.long import Track, tracks

    if args.channels == "mix":
        return sources
    found = []
    for source in sources:
        try:
            chosen = tracks(source, args.channels)
        except UserError:  # its response has the reason
            chosen = {"": None}
        found += [Track(source, name, channel) for name, channel in chosen.items()]
    return found


def _key(source) -> dict[str, str]:
    """`key` of a manifest line, nothing for other sources."""
    return {"key": source.key} if hasattr(source, "key") else {}


def _channel(source) -> dict[str, str]:
    """`channel` of one of several, nothing for other sources."""
    from mindspore_osum.speech.long import Track

    return {"channel": source.name} if isinstance(source, Track) and source.name else {}


def _name(source) -> str:
    from mindspore_osum.inference.inquiry import name_of

    return name_of(source)


def _identity(line: dict) -> tuple:
    """What distinguishes the recording of an output line from others."""
    return line.get("key"), line["audio"], line.get("channel")


def _own_request(source, hotwords: str):
    """The default request of a source: a manifest line's own task, asr for a file."""
    from mindspore_osum.inference.request import make_request

    try:
        return make_request(getattr(source, "task", None), hotwords=hotwords)
    except UserError as error:
        raise UserError(f"{source.where}: {error}") from None


def _responses(args, sources: list, request, sampling) -> Iterator[tuple]:
    """(source, response) in order, with progress on standard error."""
    if not sources:
        return
    requests = [request or _own_request(source, args.hotwords) for source in sources]
    engine = load_model(args).engine
    if request:  # of all: refused once, not for every recording
        engine.asked(request)
    responses = engine.answer_each(sources, requests=requests, sampling=sampling, batch_size=args.batch_size)
    with Progress(len(sources)) as progress:
        for source, response in zip(sources, responses, strict=True):
            yield source, response
            progress.clear()
            if not response.error:
                warn(response)
            progress()


def _line(source, response) -> str:
    return json.dumps(_object(source, response), ensure_ascii=False)


def _object(source, response) -> dict:
    """The JSON object of one recording; `key` is for manifest lines only."""
    line = _key(source) | {"audio": response.audio} | _channel(source)
    if response.error:
        return line | {"error": response.error}
    (answer,) = response.segments
    line |= answer.to_dict()
    for name in ("start", "end", "probabilities", "error"):  # it is all of the recording
        del line[name]
    line |= _channel(source)
    if not line["channel"]:
        del line["channel"]
    for name in ("confidence", "word_confidence"):
        if line[name] is None:
            del line[name]
    return line | {"seconds": round(response.seconds, 3), "rtf": round(response.rtf, 4)}


@contextlib.contextmanager
def _json_lines(args, kept: dict[object, str], stdout):
    """Yields a function that writes one line: appended to --output, else to `stdout`."""
    if not args.output:
        yield (lambda line: None) if args.table else (lambda line: print(line, file=stdout, flush=True))
        return
    with writing(args.output, kept) as write:
        yield write
