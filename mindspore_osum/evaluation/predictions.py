"""The answers of a model to a manifest: predictions.jsonl, and runs that write it.

One JSON object per line: {"key", "prompts", "raw", "task", "request", "seconds", "compute_seconds", "cut"}.

Notable choices
- Lines are appended batch by batch. An interrupted run is resumed where it stopped (an incomplete last line
  is removed). settings.json in the same folder has the settings of the answers; other settings are refused.
- Only the raw answer is stored: parsing and scoring can be repeated without the model.
- A recording that cannot be answered has no line: it is reported, and retried by the next run.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object, read_json, whole_lines, without_mark, write_text

FILE, SETTINGS = "predictions.jsonl", "settings.json"
Place = tuple[str, str]  # prompts, key


@dataclass(frozen=True)
class Prediction:
    """One answer: `seconds` of audio, `compute_seconds` its share of its batch's time (None: unknown)."""

    key: str
    prompts: str
    raw: str
    task: str = ""
    request: str | None = None
    seconds: float | None = None
    compute_seconds: float | None = None
    cut: bool = False  # truncated at the token limit

    @property
    def place(self) -> Place:
        """Prompts and key that the prediction belongs to."""
        return self.prompts, self.key


def read_predictions(path: str | os.PathLike) -> list[Prediction]:
    """Read a predictions file; unknown fields are ignored, `prompts` is "fixed" when absent.

    Lines of `osum infer` about failed recordings are skipped; these predictions count as missing.

    Raises
    ------
    UserError : the file cannot be read, or a line is not an object with the strings "key" and "raw".
    """
    try:
        lines = without_mark(Path(path).read_bytes(), str(path)).splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read the predictions ({error.strerror})") from None
    return _predictions(lines, path)


def _predictions(lines: Sequence[bytes], path: str | os.PathLike) -> list[Prediction]:
    parsed = [_parse(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    return [prediction for prediction in parsed if prediction is not None]


def append_predictions(folder: Path, predictions: Sequence[Prediction]) -> None:
    """Append answers to the folder's file; they are on disk when this returns.

    Raises
    ------
    UserError : they cannot be written.
    """
    lines = (json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in predictions)
    try:
        with open(folder / FILE, "ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{folder / FILE}: cannot write the answers ({error.strerror})") from None


def open_run(folder: Path, settings: dict) -> list[Prediction]:
    """Begin or resume a run in `folder`; returns the existing answers.

    Raises
    ------
    UserError : the folder's answers were made with other settings, or it cannot be written.
    """
    known, path = folder / SETTINGS, folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if known.exists():
            _check_settings(known, settings)
        elif path.exists():
            raise UserError(
                f"{folder}: has {FILE} but no {SETTINGS}; choose another --output, or score that "
                f"file with --predictions {path}"
            )
        else:
            write_text(known, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        if not path.exists():
            return []
        return _predictions(whole_lines(path), path)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the evaluation there ({error.strerror})") from None


def _parse(line: bytes, where: str) -> Prediction | None:
    values = json_object(line, where)
    if "error" in values and "raw" not in values:
        return None
    if not all(isinstance(values.get(f), str) for f in ("key", "raw")):
        raise UserError(f"{where}: expected an object with the texts 'key' and 'raw'")
    if not isinstance(values.get("prompts") or "", str):
        raise UserError(f"{where}: prompts {values['prompts']!r}: expected fixed or natural")
    for name in ("seconds", "compute_seconds"):
        if not isinstance(values.get(name) or 0, int | float):
            raise UserError(f"{where}: {name} {values[name]!r}: expected a number")
    fields = {f: values[f] for f in Prediction.__dataclass_fields__ if values.get(f) is not None}
    return Prediction(**{"prompts": "fixed"} | fields)


def _check_settings(path: Path, settings: dict) -> None:
    try:
        known = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; delete the folder or choose another --output") from None
    for name, value in settings.items():
        if known.get(name, False) != value:  # what is off may be absent
            raise UserError(
                f"{path.parent}: holds an evaluation with another {name}; choose another "
                "--output, or delete the folder to start afresh"
            )
