#!/usr/bin/env python3
"""Word error rates of a Whisper beside those of transformers and faster-whisper, all scored by `osum eval`.

    scripts/whisper_wer.py --model openai/whisper-base --manifest set.jsonl --output wer --python PYTHON

Ours is asked as `osum transcribe --language en` does; the others decode greedily, in windows of 30 s, without
times. PYTHON is an interpreter that has them. A program whose answers are there already is not run again.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindspore_osum.bench.card import Outcome  # noqa: E402
from mindspore_osum.bench.setup import Setup, default_threads  # noqa: E402
from mindspore_osum.bench.whisper import LANGUAGE, Ours, peers  # noqa: E402
from mindspore_osum.cli import main as osum  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.speech.audio import load_audio  # noqa: E402

OURS, PEERS = "ours", ("transformers", "faster-whisper")


def main() -> int:
    """Write the answers of each program, and score them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or name of a Whisper")
    parser.add_argument("--manifest", required=True, type=Path, help="test set (key, wav, txt, task)")
    parser.add_argument("--output", required=True, type=Path, help="folder for answers and scores")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the other programs")
    parser.add_argument("--only", choices=(OURS, *PEERS), help="run this program alone")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in args.manifest.read_text("utf-8").splitlines()]
    chosen = [args.only] if args.only else [OURS, *PEERS]
    with ExitStack() as stack:
        ours, sides = Ours(args.model), {}
        others = [name for name in chosen if name != OURS]
        if others:
            setup, told = Setup(False, default_threads(), args.output, python=args.python), Outcome()
            sides = peers(setup, ours, told, stack, others)
            print("\n".join(told.notes), file=sys.stderr)
        for name in chosen:
            if name == OURS or name in sides:
                answers = args.output / f"{args.manifest.stem}-{name}.jsonl"
                if not answers.is_file():
                    write(answers, lines, args.manifest.parent, ours, sides.get(name), args.output)
    failed = 0
    for name in chosen:
        answers = args.output / f"{args.manifest.stem}-{name}.jsonl"
        if answers.is_file():
            print(f"== {name}", flush=True)
            call = ["eval", "--predictions", str(answers), "--manifest", str(args.manifest), "--numbers"]
            failed |= osum([*call, "--output", str(answers.with_suffix("")), "--no-plots"])
    return failed


def write(path: Path, lines: list[dict], home: Path, ours: Ours, side, folder: Path) -> None:
    """The answers of one program: lines of key and raw."""
    found, samples = [], folder / "samples.npy"
    for line in lines:
        if side is None:
            text = ours.transcribe(str(home / line["wav"]), LANGUAGE).text
        else:
            np.save(samples, load_audio(home / line["wav"]))
            (tokens,) = side.ask("run", wavs=[str(samples)], language=LANGUAGE)["tokens"]
            text = ours.engine.tokenizer.decode(tokens)
        found.append(json.dumps({"key": line["key"], "raw": text.strip()}, ensure_ascii=False))
    path.write_text("\n".join(found) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"whisper_wer: {error}")
