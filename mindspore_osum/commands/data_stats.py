"""`osum data stats MANIFEST...`: durations, tasks, labels and tokens of training data."""

from pathlib import Path

from mindspore_osum.commands.arguments import add_sources
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.stats import Stats, describe, draw
from mindspore_osum.figures import require_matplotlib
from mindspore_osum.systems.registry import DEFAULT, system_of
from mindspore_osum.text.tokenizer import open_tokenizer


def add_arguments(parser) -> None:
    """The arguments of `osum data stats`."""
    add_sources(parser)
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.model: count the tokens of answers")
    parser.add_argument("--plot", metavar="PNG", type=Path, help="draw the distributions")


def run(args) -> int:
    """Print what the sources hold; 1 if none of it can be used."""
    if args.plot:
        require_matplotlib("leave out --plot")
    tokens, stats = None, Stats()
    if args.tokenizer:
        system = system_of(DEFAULT)
        extractor = system.extractor(system.Config(), open_tokenizer(args.tokenizer), requests="tag")
        tokens = lambda utt: extractor.scan(utt).labels  # noqa: E731
    for path in args.manifests:
        for item in open_source(path):
            if isinstance(item, Utterance):
                stats.add(item, tokens)
            else:
                stats.not_usable += 1
    print("\n".join(describe(stats)))
    if args.plot:
        draw(stats, args.plot)
        print(f"drawn: {args.plot}")
    return 0 if stats.tasks else 1
