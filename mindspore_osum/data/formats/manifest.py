"""Utterances, and the published manifest line {"key", "wav", "txt", "task", "extra"}.

Notable choices
- `wav` is relative to the manifest's folder, or an address in an object store; null or absent for text-only
  tasks.
- A malformed line is counted and listed with file:line, or refused when `strict`; no line is dropped
  silently.
- `start` and `end` select a part of the recording. Other keys of published lists (lang, speaker, ...) are
  ignored. Lists of speech tokens in `extra` are dropped: they are large and only needed for speech output.
"""

from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.files import json_object
from mindspore_osum.speech.opening import FilePart
from mindspore_osum.stores import joined
from mindspore_osum.tasks import INTENT_KEY, TEXT2TEXT, task_key

TEXT_TASKS = (TEXT2TEXT, INTENT_KEY)  # published task keys whose examples have no recording
MALFORMED = "malformed"
END_SLACK = 0.1
"""Seconds that a part may end after its recording: published lists round them."""

_MAX_SECONDS = 1e9  # 30 years; larger numbers overflow as samples
_UNUSED_EXTRA = ("speech_token", "speech_tokens")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One example: a line of a manifest, or a sample of a shard."""

    key: str
    wav: str | FilePart | None  # the recording; None for text-only tasks
    txt: str  # transcript and labels, without the tags in front (OSUM Table 1)
    task: str  # published task key, for example "<TRANSCRIBE> <AGE>"
    extra: dict = field(default_factory=dict)  # published: age, gender, question, intent, ...
    start: float | None = None  # seconds; the part of the recording that is used
    end: float | None = None
    where: str = ""  # file:line (file:key in a shard), for errors


def key_of(utt: Utterance) -> str:
    """The published key of the utterance's task, which may be an abbreviation or have other spaces."""
    try:
        return TEXT2TEXT if utt.task == TEXT2TEXT else task_key(utt.task)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None


class Skipped(NamedTuple):
    """An item of a source from which no utterance was made."""

    reason: str  # items are counted by reason
    text: str  # "file:line: what is wrong"
    error: bool = True  # whether it is an error in the data; False: left out by rule


def parse_object(values: dict, folder: Path, where: str) -> Utterance:
    """An object with the published keys -> Utterance; `wav` may be a FilePart already."""
    for name in ("key", "txt", "task"):
        if not isinstance(values.get(name), str) or not values[name].strip():
            found = short(values.get(name))
            raise UserError(f"{where}: {name!r} must be a text that is not empty, found {found}")
    if not is_plain(values["key"]):  # keys are names: of answers, files, members of shards
        raise UserError(f"{where}: 'key' holds control characters: {short(values['key'])}")
    wav = values.get("wav")
    if wav is not None and (not isinstance(wav, str | FilePart) or not wav):
        raise UserError(f"{where}: 'wav' must be a path or null, found {short(wav)}")
    if wav is None and values["task"] not in TEXT_TASKS:
        raise UserError(f"{where}: task {values['task']} needs a recording, but there is no 'wav'")
    start, end = (seconds_in(values, name, where) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: 'end' {end} is not after 'start' {start or 0.0}")
    return Utterance(
        values["key"],
        joined(folder, wav) if isinstance(wav, str) else wav,
        values["txt"],
        values["task"],
        _extra(values.get("extra"), where),
        start,
        end,
        where,
    )


def _extra(value, where: str) -> dict:
    """`extra` without unused keys; in published lists it may also be a string of JSON."""
    if isinstance(value, str):
        value = json_object(value.encode("utf-8", "replace"), f"{where}: 'extra'") if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: 'extra' must be an object, found {type(value).__name__}")
    return {name: item for name, item in value.items() if name not in _UNUSED_EXTRA}


def seconds_in(values: dict, name: str, where: str) -> float | None:
    """The seconds under a name; None if there are none. UserError for anything but 0 or more of them."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_SECONDS:
        raise UserError(f"{where}: {name!r} must be seconds, 0 or more, found {short(value)}")
    return float(value)


def default_key(where: str) -> str:
    """The key of an utterance whose format has none: name of the file and number of the line."""
    file, _, line = where.rpartition(":")
    name = Path(file).name
    return f"{Path(name.removesuffix('.gz')).stem}-{line}"
