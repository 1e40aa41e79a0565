"""What a Whisper itself writes for the English recordings of a manifest, to be learned beside labels.

    python examples/real_whisper/own_words.py --model start --manifest corpus/words.jsonl --output own.jsonl

Notable choices
- A model that learns labels forgets words. Its own transcripts keep it where it is: their loss is near zero
  at first, and grows with what it forgets (learning without forgetting, Li and Hoiem 2016, with the best
  answer in place of all probabilities).
- What it wrote is appended at once, so that an interrupted command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from mindspore_osum.errors import UserError

ROWS, MOST_WORDS = 8, 30  # recordings of a batch; words of a transcript: more is a loop


def own_words(model, lines: list[dict], output: Path) -> int:
    """Append the lines that `output` does not have, in batches; returns how many it has then.

    Parameters
    ----------
    model : `OSUM` of a Whisper.
    lines : of a manifest; those of other languages than English are left out.
    """
    known = {json.loads(line)["key"] for line in output.read_text("utf-8").splitlines()}
    todo = [line for line in lines if line["extra"]["lang"] == "en" and line["key"] not in known]
    with open(output, "a", encoding="utf-8") as file:
        for first in range(0, len(todo), ROWS):
            batch = todo[first : first + ROWS]
            answers = model([line["wav"] for line in batch], task="asr", language="en", batch_size=ROWS)
            for line, answer in zip(batch, answers, strict=True):
                text = "" if answer.error else answer.text
                if 0 < len(text.split()) <= MOST_WORDS:
                    file.write(json.dumps(line | {"txt": text}, ensure_ascii=False) + "\n")
                    known.add(line["key"])
            file.flush()
    return len(known)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    from mindspore_osum import OSUM

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR")
    add("--manifest", type=Path, required=True, metavar="FILE.jsonl", help="its transcripts are not read")
    add("--most", type=int, default=1200, metavar="N", help="recordings (default 1200)")
    add("--output", type=Path, required=True, metavar="FILE.jsonl")
    options = parser.parse_args(arguments)
    begun = options.output.with_name(options.output.name + ".begun")
    try:
        lines = [json.loads(line) for line in options.manifest.read_text("utf-8").splitlines()]
        begun.touch()
        english = [line for line in lines if line["extra"]["lang"] == "en"][: options.most]
        count = own_words(OSUM.load(str(options.model), device="CPU"), english, begun)
        os.replace(begun, options.output)
    except (UserError, OSError, KeyError, ValueError) as error:
        sys.exit(f"own_words.py: {error}")
    print(f"{options.output}: {count} lines")


if __name__ == "__main__":
    main()
