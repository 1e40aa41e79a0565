"""Files that record the settings of a result, to detect results with other settings."""

from __future__ import annotations

import json
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text


def is_noted(note: Path, settings: dict, mend: str) -> bool:
    """Whether there is a note with these settings.

    Raises
    ------
    UserError
        It has other settings; `mend` says how to fix this.
    """
    if not note.exists():
        return False
    if note.read_text(encoding="utf-8") != _text(settings):
        raise UserError(f"{note} is not of {settings}; {mend}")
    return True


def write_note(note: Path, settings: dict) -> None:
    """Write the settings atomically."""
    write_text(note, _text(settings))


def _text(settings: dict) -> str:
    return json.dumps(settings) + "\n"
