"""What the corpus's tests say of a model: whether it knows who speaks, and how well it still writes text.

    python examples/real_parts/measure.py --model DIR --corpus corpus --output measured.json

Notable choices
- The loss of text is that of answers which the untouched language model gave to typed questions that training
  does not have: nats a token, so that the models' difference is what was forgotten.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text

ROWS = 8


def speaker(model, manifest: Path) -> dict:
    """How often the answer is the right one, of recordings that are asked who speaks."""
    from mindspore_osum.inference.request import make_request

    lines = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    requests = [make_request(None, line["extra"]["request"]) for line in lines]
    found = model.engine.answer([line["wav"] for line in lines], requests=requests, batch_size=ROWS)
    right = sum(one.raw.strip() == line["txt"] for one, line in zip(found, lines, strict=True))
    return {"recordings": len(lines), "accuracy": right / len(lines)}


def text_loss(model, manifest: Path) -> dict:
    """Mean cross-entropy of typed questions' answers."""
    from mindspore_osum.data.formats.sources import open_source
    from mindspore_osum.systems.prompt import Prompt

    engine = model.engine
    extractor = engine.system.extractor(engine.cfg, engine.tokenizer)
    sequences = [extractor.sequence(utt, None) for utt in open_source(str(manifest))]
    total, count = 0.0, 0
    for first in range(0, len(sequences), ROWS):
        batch = sequences[first : first + ROWS]
        columns = engine.generator.parts.columns([Prompt(one) for one in batch])
        scores_BLV = model.logits(columns)
        for row, one in enumerate(batch):
            (places,) = np.nonzero(one.labels_L >= 0)
            scores_NV = scores_BLV[row, places - 1].astype(np.float64)
            most_N1 = scores_NV.max(-1, keepdims=True)
            log_sum_N = np.log(np.exp(scores_NV - most_N1).sum(-1)) + most_N1[:, 0]
            total += float((log_sum_N - scores_NV[np.arange(len(places)), one.labels_L[places]]).sum())
            count += len(places)
    return {"answers": len(sequences), "tokens": count, "loss": total / count}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--text-only", action="store_true", help="of a model that has not learned to listen")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        from mindspore_osum import OSUM

        model = OSUM.load(str(options.model), device="CPU")
        found = {"text": text_loss(model, options.corpus / "text_test.jsonl")}
        if not options.text_only:
            found["speaker"] = speaker(model, options.corpus / "test_speaker.jsonl")
        write_text(options.output, json.dumps(found, indent=1) + "\n")
    except (UserError, OSError) as error:
        sys.exit(f"measure.py: {error}")


if __name__ == "__main__":
    main()
