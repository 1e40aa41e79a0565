"""Answers JSON lines: {"what": name, ...} in, {...} out. Started by torch_client.py."""

import json
import os
import sys
import warnings


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    from mindspore_osum.bench.torch_side import sides

    side = sides.Sides()
    for line in sys.stdin:
        values = json.loads(line)
        print(json.dumps(getattr(side, values.pop("what"))(**values)), file=answers, flush=True)


if __name__ == "__main__":
    main()
