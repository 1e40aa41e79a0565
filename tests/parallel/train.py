"""`osum train` where semi-automatic parallel graphs run on CPU: msrun ... tests/parallel/train.py ..."""

import sys

import cpu_semi_auto
import mindspore as ms
from mindspore.communication import init

from mindspore_osum.cli import main

if __name__ == "__main__":
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    init()
    cpu_semi_auto.enable(timeout=600)
    sys.exit(main(["train", *sys.argv[1:]]))
