"""`osum data events MANIFEST... --events MANIFEST`: speech with vocal events in it."""

from dataclasses import asdict

from mindspore_osum.commands.arguments import add_made, add_sources, errors_of
from mindspore_osum.commands.console import resumable
from mindspore_osum.data.pipeline.events import END, WORD, Settings, event_jobs, read_events
from mindspore_osum.data.pipeline.making import MANIFEST, make_all
from mindspore_osum.data.pipeline.reading import Usable


def add_arguments(parser) -> None:
    """The arguments of `osum data events`."""
    add_sources(parser)
    parser.add_argument(
        "--events",
        metavar="MANIFEST",
        nargs="+",
        required=True,
        help="recordings of events alone, with the task <CAPTION> and labels like <COUGH>",
    )
    usual = Settings()
    parser.add_argument(
        "--level",
        metavar="DB",
        type=float,
        nargs=2,
        default=usual.level_db,
        help="lowest and highest power of an event over that of the speech (default: -3 3)",
    )
    parser.add_argument(
        "--tag",
        choices=(END, WORD),
        default=usual.tag,
        help="where the label is: at the end of the text, as published (default), or between its words, "
        "where these have times",
    )
    add_made(parser, seed=True)


def run(args) -> int:
    """Write the recordings and print how many; 0."""
    how = Settings(tuple(args.level), args.tag, args.seed)
    errors = errors_of(args)
    events = read_events(Usable(args.events, errors))
    usable = Usable(args.manifests, errors)
    settings = {"verb": "events", "sources": args.manifests, "events": args.events} | asdict(how)
    with resumable():
        count = make_all(args.output, settings, event_jobs(usable, events, how), usable.leave_out)
    print(f"{args.output / MANIFEST}: {count} utterances with an event, {errors.count} errors left out")
    return 0
