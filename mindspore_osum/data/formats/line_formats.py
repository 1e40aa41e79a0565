"""The formats of a manifest's lines, each recognised by its keys.

    published               {"key", "wav", "txt", "task", "extra"}
    WEST, WeNet             {"wav", "txt"}, with a "key" or without: transcription
    conversations           see conversations.py
    recording and text      NeMo, FunASR, audiofolder and their like: transcription
    lhotse cut              see lhotse.py

Notable choices
- A line is never taken for less than it says: where it would be words alone although one of its keys names a
  recording, it is an error.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

from mindspore_osum.data.formats.conversations import form_of, with_messages
from mindspore_osum.data.formats.lhotse import is_lhotse, parse_cut
from mindspore_osum.data.formats.manifest import (
    MALFORMED,
    Skipped,
    Utterance,
    default_key,
    parse_object,
    seconds_in,
)
from mindspore_osum.data.formats.west import parse_turns, parse_whole
from mindspore_osum.errors import UserError

PUBLISHED, PAIR, LHOTSE = "published", "WEST or WeNet", "lhotse cut"
TRANSCRIBE = "<TRANSCRIBE>"
# key of the recording -> name of the format; the key of the text is one of TEXTS
RECORDINGS = {"audio_filepath": "NeMo", "source": "FunASR", "file_name": "audiofolder"}
RECORDINGS |= dict.fromkeys(("audio", "audio_path", "wav_path", "path"), "recording and text")
TEXTS = ("text", "target", "transcription", "transcript", "sentence", "txt")
_NAMES_RECORDING = re.compile(
    r"(.*_)?(audios?|wavs?|sounds?|speech|recordings?|paths?|files?|filenames?|filepaths?)(_(path|file|name|url)s?)?"
    r"|.*(audio|wav).*",
    re.IGNORECASE,
)

Items = Iterator[Utterance | Skipped]


class LineFormat(NamedTuple):
    """A format: its name, and what makes utterances of a line, its folder, its file:line and its task."""

    name: str
    parse: Callable[[dict, Path, str, str | None], Items]


def format_of(values: dict, whole: bool = False) -> LineFormat:
    """The format of a manifest line; `whole` as of `parse_line`."""
    if form := form_of(values):
        return LineFormat(form, _whole_conversation if whole else _conversation)
    if is_lhotse(values):
        return LineFormat(LHOTSE, parse_cut)
    if "task" in values and "key" in values:
        return LineFormat(PUBLISHED, _published)
    key = _recording_key(values)
    return LineFormat(RECORDINGS[key], _recording_and_text) if key else LineFormat(PAIR, _pair)


def parse_line(values: dict, folder: Path, where: str, task: str | None = None, whole: bool = False) -> Items:
    """The utterances of a manifest line, and what was not used.

    Parameters
    ----------
    task : that of a line with a recording which does not say its own.
    whole : whether all turns of a conversation are used, see west.py; else the first one.
    """
    for item in format_of(values, whole).parse(values, folder, where, task):
        if isinstance(item, Utterance) and item.wav is None and (name := _names_recording(values)):
            yield Skipped(
                MALFORMED,
                f"{where}: {name!r} seems to name a recording, but the line would be used as words alone; "
                "name it 'wav' ('audios' beside messages), or leave the key out",
            )
        else:
            yield item


def _names_recording(values: dict) -> str | None:
    """A key of a line that names a recording by its looks."""
    for name, value in values.items():
        if isinstance(value, str | list | dict) and value and _NAMES_RECORDING.fullmatch(name):
            return name
    return None


def _published(values: dict, folder: Path, where: str, task: str | None = None) -> Items:
    try:
        yield parse_object(values, folder, where)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))


def _conversation(
    values: dict, folder: Path, where: str, task: str | None, parse: Callable[..., Items] = parse_turns
) -> Items:
    try:
        values = with_messages(values, where)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))
    else:
        yield from parse(values, folder, where, task)


def _whole_conversation(values: dict, folder: Path, where: str, task: str | None) -> Items:
    return _conversation(values, folder, where, task, parse_whole)


def _pair(values: dict, folder: Path, where: str, task: str | None) -> Items:
    """{"wav", "txt"} is transcription; with a key, labels or `extra` mean that a task was forgotten."""
    forgotten = not task and "key" in values and ("extra" in values or "<" in str(values.get("txt")))
    given = {} if forgotten or "task" in values else {"task": task or TRANSCRIBE}
    given |= {} if {"key", "task"} & values.keys() else {"key": default_key(where)}
    return _published({**given, **values}, folder, where)


def _recording_key(values: dict) -> str | None:
    """The key that names the recording of a line of recording and text; None for other lines."""
    return None if "wav" in values else next((name for name in RECORDINGS if name in values), None)


def _recording_and_text(values: dict, folder: Path, where: str, task: str | None) -> Items:
    try:
        yield parse_object({"task": task or TRANSCRIBE, **_as_published(values, where)}, folder, where)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))


def _as_published(values: dict, where: str) -> dict:
    """The published form of {"audio_filepath", "text", "offset", "duration"} and its like."""
    named = [name for name in RECORDINGS if values.get(name) is not None]
    if len(named) != 1:
        raise UserError(f"{where}: {' and '.join(named) or 'nothing'} names the recording; expected one key")
    wav = values[named[0]]
    wav = wav.get("path") if isinstance(wav, dict) else wav  # the form of Hugging Face's data sets
    if not isinstance(wav, str) or not wav.strip():
        raise UserError(f"{where}: {named[0]!r} must be a path, found {short(values[named[0]])}")
    texts = {name: values[name] for name in TEXTS if values.get(name) is not None}
    text, *others = texts.values() or [None]
    if others or not isinstance(text, str) or not text.strip():
        names, found = ", ".join(TEXTS), short(texts or None)
        raise UserError(f"{where}: expected one transcript that is not empty ({names}), found {found}")
    if "shard_id" in values:
        raise UserError(f"{where}: 'shard_id': the recordings are in tars of NeMo; unpack them, drop the key")
    spoken, written = (values.get(f"{side}_lang") for side in ("source", "target"))
    if None not in (spoken, written) and spoken != written:
        raise UserError(f"{where}: from {short(spoken)} to {short(written)}: no task translates")
    kept = {name: values[name] for name in ("key", "task", "extra", "start", "end") if values.get(name)}
    return {
        "key": default_key(where),
        **kept,
        "wav": wav,
        "txt": text,
        **_part(values, where),
    }


def _part(values: dict, where: str) -> dict[str, float]:
    """The start and end that `offset` and `duration` give.

    A duration alone is a part from the beginning in NeMo, which reads no more; elsewhere it only describes
    the recording, in whatever unit.
    """
    offset, duration = (seconds_in(values, name, where) for name in ("offset", "duration"))
    if offset is None and duration and "audio_filepath" in values:
        offset = 0.0
    if offset is None:
        return {}
    if not duration:
        raise UserError(f"{where}: 'offset' needs a 'duration' in seconds, above 0")
    return {"start": offset, "end": round(offset + duration, 6)}
