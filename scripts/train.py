"""`osum train` as a script; for msrun: scripts/msrun_launcher.sh "scripts/train.py --config X.yaml" N."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without an installed package

from mindspore_osum.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
