"""What a run tells: lines on stderr, and its metrics as JSON lines, TensorBoard events and curves."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.training import curves

METRICS, EVENTS = "metrics.jsonl", "tensorboard"


def say(text: str) -> None:
    """One line for the person at the terminal; of several processes only the first speaks."""
    if os.environ.get("RANK_ID", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


@contextlib.contextmanager
def writing(path: Path):
    """What cannot be written meanwhile ends as one line with the name of `path`."""
    try:
        yield
    except OSError as error:
        why = f"cannot be written ({error.strerror}); fix that, or choose another folder"
        raise UserError(f"{path}: {why}") from None


class Metrics:
    """The metrics of a run, in its folder; one process writes them.

    Parameters
    ----------
    folder : of the run.
    step : the step it starts or resumes at; records after it, which it writes again, are dropped.

    Attributes
    ----------
    skipped : steps so far that were not applied.
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
        """Add one record; it has "step", its numbers keep all digits."""
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in curves.numbers(record).items():
            self.events.add_scalar(name, value, record["step"])

    def skip(self, step: int, reason: str, keys: list[str]) -> None:
        """Add the record of a step that was not applied."""
        self.skipped += 1
        self.write({"step": step, curves.SKIPPED: self.skipped, "reason": reason, "utterances": keys})

    def refresh(self) -> None:
        """Bring events and curves up to date with the records."""
        self.events.flush()
        if self.draws and self.path.is_file():
            curves.draw(self.path)
