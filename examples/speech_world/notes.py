"""Notes of the settings that something was made with, kept beside it."""

from __future__ import annotations

import json
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text


def is_noted(note: Path, settings: dict, mend: str) -> bool:
    """Whether there is a note, of these settings.

    Raises
    ------
    UserError
        If it is of other settings; `mend` says what to do then.
    """
    if not note.exists():
        return False
    if note.read_text(encoding="utf-8") != _text(settings):
        raise UserError(f"{note} is not of {settings}; {mend}")
    return True


def write_note(note: Path, settings: dict) -> None:
    """Note the settings; the file is there whole or not at all."""
    write_text(note, _text(settings))


def _text(settings: dict) -> str:
    return json.dumps(settings) + "\n"
