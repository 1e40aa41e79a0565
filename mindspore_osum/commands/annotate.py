"""`osum annotate`: all eight tasks for each recording, one JSON object a line."""

import contextlib
import json
from collections.abc import Callable, Iterator

from mindspore_osum.commands import bulk
from mindspore_osum.commands.arguments import add_engine, add_resume
from mindspore_osum.commands.console import clean_stdout, failures, load_model, say, warn
from mindspore_osum.commands.inputs import add_listening_arguments, expand, name_of, progress, settings
from mindspore_osum.commands.jsonl import kept_lines, writing
from mindspore_osum.results import Response
from mindspore_osum.tasks import TASKS

EXAMPLES = """\
examples:
  osum annotate calls/ --output annotations.jsonl                # transcript, word times, labels, a reply
  osum annotate calls/ --output annotations.jsonl --resume       # go on after an interruption
  osum annotate a.wav --tasks asr,gender,age --probabilities     # only these, in one pass
  osum annotate calls/ --output annotations.jsonl --engine ray --replicas 8 --device Ascend
"""


def add_arguments(parser) -> None:
    """The arguments of `osum annotate`."""
    add_listening_arguments(parser)
    parser.add_argument(
        "--tasks",
        metavar="T[,T...]",
        help=f"tasks ({', '.join(TASKS)}) or tag names, comma-separated (default: all eight tasks)",
    )
    parser.add_argument("--single", action="store_true", help="ask for each task on its own, in more passes")
    parser.add_argument("--probabilities", action="store_true", help="also the probability of each label")
    parser.add_argument("--output", metavar="FILE.jsonl", help="write the JSON lines there")
    add_resume(parser, "that are in --output")
    add_engine(parser)


def run(args) -> int:
    """Annotate; 0, or 1 if a recording failed."""
    from mindspore_osum.inference.passes import plan

    tasks = [name.strip() for name in args.tasks.split(",")] if args.tasks else list(TASKS)
    requests = plan(tasks, combine=not args.single, hotwords=args.hotwords)
    how = settings(args) | {"probabilities": args.probabilities}
    if bulk.on_ray(args, "--output FILE.jsonl"):
        return _on_ray(args, bulk.Listening(args.model, args.device, requests, how))
    kept = kept_lines(args.output, lambda line: line["audio"], "annotate") if args.resume else {}
    sources, failed = expand(args.audio), []
    if args.resume:
        say(f"{len(kept)} recordings are there already")
    sources = [source for source in sources if name_of(source) not in kept]
    with clean_stdout() as stdout:
        model = load_model(args) if sources else None
        with _lines(args, kept, stdout) as write, progress(sources) as done:
            for response in model.each(sources, requests, progress=done, **how) if model else ():
                done.clear()
                write(response)
                if response.error:
                    failed.append(response.error)
                else:
                    warn(response)
    return failures(failed)


def _on_ray(args, work: bulk.Listening) -> int:
    kept = bulk.kept_by_jobs(args, lambda line: line["audio"], "annotate")
    sources = [source for source in expand(args.audio) if name_of(source) not in kept]
    if args.resume:
        say(f"{len(kept)} recordings are there already")
    return bulk.write_in_parts(args, "annotate", work, sources, kept, lambda source, found: _line(found))


@contextlib.contextmanager
def _lines(args, kept: dict[object, str], stdout) -> Iterator[Callable[[Response], None]]:
    """What writes a response: appended to --output, else to standard output, as card or JSON."""
    if not args.output:
        person = stdout.isatty()
        yield lambda response: print(response if person else _line(response), file=stdout, flush=True)
        return
    with writing(args.output, kept) as write:
        yield lambda response: write(_line(response))


def _line(response: Response) -> str:
    return json.dumps(response.to_dict(), ensure_ascii=False)
