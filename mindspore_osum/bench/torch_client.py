"""Another side of a comparison, in a process of its own: started here, asked by JSON lines."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mindspore_osum.bench.timing import Run
from mindspore_osum.errors import UserError


class Side:
    """A process that waits for work between the lines.

    Parameters
    ----------
    name : of the side, for errors.
    command : starts it.
    log : file for the output of its libraries.
    env : its environment; None for this process's.

    Raises
    ------
    UserError : the command cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, env: dict[str, str] | None = None):
        self.name, self.log = name, log
        with open(log, "wb") as file:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    env=env,
                )
            except OSError as error:
                raise UserError(f"{command[0]}: cannot be started ({error.strerror})") from None

    def ask(self, what: str, **values) -> dict:
        """The answer to one question: a function of the other side by name, and its arguments."""
        try:
            self._process.stdin.write(json.dumps({"what": what, **values}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(f"{self.name} ended at {what!r}: {' '.join(last) or 'without a word'}")
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


class TorchSide(Side):
    """PyTorch: torch_side/sides.py has what it can be asked.

    Parameters
    ----------
    threads : number of threads it computes with.
    log : as of `Side`.

    Raises
    ------
    UserError : PyTorch is not installed.
    """

    def __init__(self, threads: int, log: Path):
        if find_spec("torch") is None:
            raise UserError("needs PyTorch to compare with: pip install 'mindspore-osum[dev]'")
        command = [sys.executable, "-m", "mindspore_osum.bench.torch_side", str(threads)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        super().__init__("the PyTorch side", command, log, env)
