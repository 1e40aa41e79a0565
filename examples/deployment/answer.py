"""Answer recordings from a folder that `osum export` wrote.

python examples/deployment/answer.py deploy a.wav b.flac --task asr
python examples/deployment/answer.py deploy a.wav --instruction "What does the speaker say?"
"""

import argparse
import json
import sys

from mindspore_osum.errors import UserError
from mindspore_osum.export.runner import Exported
from mindspore_osum.inference.request import make_request


def main() -> int:
    """Print one JSON object per line; returns 0, or 1 if a recording failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="what `osum export` wrote")
    parser.add_argument("audio", nargs="+")
    parser.add_argument("--task")
    parser.add_argument("--instruction", metavar="WORDS")
    parser.add_argument("--device", default="CPU", choices=("CPU", "Ascend"))
    args = parser.parse_args()
    status = 0
    try:
        request = make_request(args.task, args.instruction)
        model = Exported(args.folder, args.device)
    except UserError as error:
        sys.exit(f"answer.py: {error}")
    for path in args.audio:
        try:
            print(json.dumps(model.answer(path, request).to_dict(), ensure_ascii=False), flush=True)
        except UserError as error:
            print(f"answer.py: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
