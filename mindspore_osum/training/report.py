"""Reports of a run: lines on stderr, and metrics as JSON lines, TensorBoard events and curves."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import write_text
from mindspore_osum.training import curves

METRICS, EVENTS = "metrics.jsonl", "tensorboard"


def say(text: str) -> None:
    """Print one line to stderr, in the first process only."""
    if os.environ.get("RANK_ID", "0") == "0":
        print(one_line(text), file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


@contextlib.contextmanager
def writing(path: Path):
    """Turn errors while writing into a one-line UserError that names `path`."""
    try:
        yield
    except OSError as error:
        why = f"cannot be written ({error.strerror}); fix that, or choose another folder"
        raise UserError(f"{path}: {why}") from None


class Metrics:
    """The metrics of a run in its folder, written by one process.

    Parameters
    ----------
    folder : of the run.
    step : the step the run starts or resumes at; records after it are dropped, since they are written again.

    Attributes
    ----------
    skipped : number of skipped steps so far.
    """

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        self.path = folder / METRICS
        kept = [record for record in curves.records(self.path) if record["step"] <= step]
        self.skipped = sum(curves.SKIPPED in record for record in kept)
        with writing(folder):
            if self.path.is_file():
                write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
            self.events = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)
        self.draws = importlib.util.find_spec("matplotlib") is not None
        if not self.draws:
            say(f"no {curves.CURVES} is drawn: it needs matplotlib (pip install 'mindspore-osum[plots]')")

    def write(self, record: dict) -> None:
        """Add one record, which has "step"; numbers keep all digits."""
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in curves.numbers(record).items():
            self.events.add_scalar(name, value, record["step"])

    def skip(self, step: int, reason: str, keys: list[str]) -> None:
        """Add the record of a skipped step."""
        self.skipped += 1
        self.write({"step": step, curves.SKIPPED: self.skipped, "reason": reason, "utterances": keys})

    def refresh(self) -> None:
        """Update events and curves from the records."""
        self.events.flush()
        if self.draws and self.path.is_file():
            curves.draw(self.path)
