"""`osum data label MANIFEST... --url URL`: a language model as annotator of transcripts."""

import os
from pathlib import Path

from mindspore_osum.commands.arguments import add_derived, add_sources, errors_of
from mindspore_osum.commands.console import resumable
from mindspore_osum.data.checks import LeftOut
from mindspore_osum.data.pipeline.derived import check_outputs, write_derived
from mindspore_osum.data.pipeline.journal import journal_beside
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.evaluation.annotator import FIELDS, annotate, prompt_for
from mindspore_osum.evaluation.endpoint import Endpoint


def add_arguments(parser) -> None:
    """The arguments of `osum data label`."""
    add_sources(parser)
    parser.add_argument(
        "--task",
        choices=FIELDS,
        required=True,
        help="ser: emotions, ssr: styles, sttc: replies to what can be answered",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        required=True,
        help="OpenAI-compatible address, as http://127.0.0.1:8000/v1; its key is in OSUM_ANNOTATOR_KEY",
    )
    parser.add_argument("--model", metavar="NAME", required=True, help="its model")
    parser.add_argument(
        "--prompt",
        metavar="FILE",
        type=Path,
        help="another prompt, with {text} and {labels}, for a reply with the JSON of the built-in one",
    )
    add_derived(parser, "the lines with what the model says")


def run(args) -> int:
    """Write the labelled lines and print how many; 0."""
    endpoint = Endpoint(args.url, args.model, os.environ.get("OSUM_ANNOTATOR_KEY"), role="annotator")
    check_outputs(args.manifests, output=args.output)
    prompt = prompt_for(args.task, args.prompt)
    usable, left_out = Usable(args.manifests, errors_of(args)), LeftOut()
    settings = {"verb": "label", "sources": args.manifests, "task": args.task, "model": args.model}
    try:
        with journal_beside(args.output, settings | {"prompt": prompt}) as journal, resumable():
            labelled = annotate(endpoint, usable, args.task, prompt, journal, usable.leave_out, left_out)
            count = write_derived(args.output, labelled)
    finally:  # also where nothing is left: it says why
        print("".join(f"{line}\n" for line in left_out.lines()), end="")
    print(f"{args.output}: {count} utterances of {args.task}, {usable.errors.count} errors left out")
    return 0
