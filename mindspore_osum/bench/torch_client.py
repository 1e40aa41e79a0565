"""The PyTorch side, in a process of its own: started here, asked by JSON lines."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mindspore_osum.bench.timing import Run
from mindspore_osum.errors import UserError


class TorchSide:
    """A PyTorch process that waits for work between the lines.

    Parameters
    ----------
    threads : number of threads it computes with.
    log : file for the output of its libraries.

    Raises
    ------
    UserError : PyTorch is not installed.
    """

    def __init__(self, threads: int, log: Path):
        if find_spec("torch") is None:
            raise UserError("needs PyTorch to compare with: pip install 'mindspore-osum[dev]'")
        self.log = log
        with open(log, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mindspore_osum.bench.torch_side", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def ask(self, what: str, **values) -> dict:
        """The answer to one question: a function of torch_side/sides.py by name, and its arguments."""
        try:
            self._process.stdin.write(json.dumps({"what": what, **values}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(f"the PyTorch side ended at {what!r}: {' '.join(last) or 'without a word'}")
        return json.loads(line)

    def run(self, what: str, **values) -> Run:
        """A `Run` that takes the seconds measured in that process."""
        return lambda: self.ask(what, **values)["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
