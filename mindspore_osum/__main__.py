"""``python -m mindspore_osum`` is the `osum` command."""

import sys

from mindspore_osum.cli import main

if __name__ == "__main__":
    sys.exit(main())
