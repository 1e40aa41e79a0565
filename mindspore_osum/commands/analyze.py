"""`osum analyze`: what of a linear aligner's embeddings matters; the work is in evaluation/spectrum.py."""

import argparse
import json
from pathlib import Path

from mindspore_osum.commands.arguments import add_device
from mindspore_osum.errors import UserError
from mindspore_osum.files import check_place

EXAMPLES = """\
examples:
  osum analyze svd output/linear_aligner_align/model --manifest test.jsonl --top 1000,300,100 --output svd
  osum analyze svd output/smollm2_aligner/model --manifest test.jsonl --top 32,16,8 --of layer --output svd
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add("what", choices=("svd",), help="svd: scores when only the largest singular values are kept")
    add("model", help="model folder of a linear aligner")
    add("--manifest", required=True, metavar="FILE", help="recordings of the tasks asr or <TRANSLATE>")
    add("--top", default="300,100,50", metavar="K,...", help="how many are kept; all is always measured, too")
    add("--of", choices=("utterance", "layer"), default="utterance", help="whose singular values")
    add("--output", "-o", required=True, metavar="DIR", help="new folder: svd.json and svd.png")
    add("--limit", type=int, metavar="N", help="only the first N recordings")
    add("--max-new-tokens", type=int, default=200, metavar="N", help="longest answer")
    add("--no-plots", action="store_true", help="no svd.png")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Analyse; returns the exit status."""
    tops = _tops(args.top)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: must be 1 or more")
    folder = Path(args.output)
    if folder.exists():
        raise UserError(f"{folder}: exists already; name a new folder, or remove it")
    check_place(folder, f"--output {folder}")
    from mindspore_osum.commands.console import Progress, align
    from mindspore_osum.evaluation.spectrum import TASKS, Spectrum, draw, mean_spectrum, scores
    from mindspore_osum.figures import require_matplotlib
    from mindspore_osum.inference.sampling import Sampling

    if not args.no_plots:
        require_matplotlib("--no-plots")
    sampling = Sampling(max_new_tokens=args.max_new_tokens)
    utterances = _utterances(args.manifest, TASKS)[: args.limit]
    spectrum, said = Spectrum(args.model, args.of, args.device), []
    with Progress(len(utterances)) as progress:
        for one in spectrum.answers(utterances, tops, sampling):
            said.append(one)
            progress()
    kept, values_K = scores(tops, said), mean_spectrum(said)
    folder.mkdir(parents=True)
    about = {"model": args.model, "manifest": args.manifest, "of": args.of, "recordings": len(said)}
    about |= {
        "scores": [vars(one) for one in kept],
        "singular_values": [round(float(v), 6) for v in values_K],
    }
    (folder / "svd.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if not args.no_plots:
        draw(folder / "svd.png", values_K, kept)
    rows = [("kept", "WER/CER", "ROUGE-L")]
    rows += [
        ("all" if one.top is None else str(one.top), _share(one.wer), _share(one.rouge_l)) for one in kept
    ]
    print(align(rows))
    return 0


def _tops(text: str) -> list[int | None]:
    """All, and the numbers of a text such as "300,100"."""
    try:
        tops = [int(word) for word in text.split(",")]
        if min(tops) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--top {text!r}: give numbers above 0, such as 300,100,50") from None
    return [None, *tops]


def _utterances(path: str, tasks) -> list:
    from mindspore_osum.data.formats.sources import read_manifest

    found, wrong = read_manifest(path)
    if wrong:
        raise UserError(f"{wrong[0]}; fix it (`osum data validate` lists all)")
    usable = [utt for utt in found if utt.task in tasks and utt.wav is not None]
    if not usable:
        raise UserError(f"{path}: no recording of the tasks {', '.join(tasks)}")
    return usable


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
