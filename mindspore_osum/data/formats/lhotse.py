"""Cuts of lhotse, the lines of `cuts.jsonl(.gz)`: parts of recordings with supervisions.

Notable choices
- A cut with one supervision is one utterance, as long as the cut; of several, each is an utterance with its
  own times.
- Read are cuts of whole, untouched files. What lhotse would do to the samples (effects, mixing, choosing a
  channel) or keeps elsewhere (features, shar, addresses, commands) is an error that names it.
"""

from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short

from mindspore_osum.data.formats.manifest import MALFORMED, Skipped, Utterance, parse_object, seconds_in
from mindspore_osum.errors import UserError

_HINT = "write one with lhotse that has a file for it: cuts.save_audios(FOLDER), then cuts.to_file(...)"
_OTHER = {"MixedCut": "several cuts mixed", "PaddingCut": "silence alone", "MultiCut": "several channels"}


def is_lhotse(values: dict) -> bool:
    """Whether an object is a line of lhotse's: a cut, a recording or a supervision."""
    return (
        "supervisions" in values
        or str(values.get("type")) in ("MonoCut", *_OTHER)
        or {"id", "sources", "sampling_rate"} <= values.keys()
        or {"id", "recording_id", "duration"} <= values.keys()
    )


def parse_cut(
    values: dict, folder: Path, where: str, task: str | None = None
) -> Iterator[Utterance | Skipped]:
    """The utterances of a cut."""
    try:
        wav, start, duration = _recording(values, where)
        supervisions = values.get("supervisions")
        if not isinstance(supervisions, list) or not all(isinstance(s, dict) for s in supervisions):
            raise UserError(f"{where}: 'supervisions' must be a list of objects, found {short(supervisions)}")
        if not supervisions:
            raise UserError(f"{where}: the cut has no supervision, so no transcript")
    except UserError as error:
        yield Skipped(MALFORMED, str(error))
        return
    for supervision in supervisions:
        try:
            part = (start, duration), values.get("id")
            if len(supervisions) > 1:
                part = _within(supervision, start, duration, where), supervision.get("id")
            line = _published(supervision, wav, *part, where)
            yield parse_object({**line, "task": task or "<TRANSCRIBE>"}, folder, where)
        except UserError as error:
            yield Skipped(MALFORMED, str(error))


def _published(supervision: dict, wav: str, part: tuple[float, float], key, where: str) -> dict:
    text, (start, duration) = supervision.get("text"), part
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: a supervision needs a 'text' that is not empty, found {short(text)}")
    speaker = supervision.get("speaker")
    return {
        "key": key,
        "wav": wav,
        "txt": text,
        "extra": {"speaker": speaker} if isinstance(speaker, str) and speaker else {},
        "start": round(start, 6),
        "end": round(start + duration, 6),
    }


def _within(supervision: dict, start: float, duration: float, where: str) -> tuple[float, float]:
    """Start in the recording and duration of a supervision, whose own start counts from the cut's; the part
    outside the cut is left out, as lhotse does.
    """
    own = supervision.get("start")
    if isinstance(own, bool) or not isinstance(own, int | float) or not abs(own) < 1e9:
        raise UserError(f"{where}: a supervision's 'start' must be seconds, found {short(own)}")
    end = min(own + _needed(supervision, "duration", where), duration)
    first = max(own, 0.0)
    if end <= first:
        raise UserError(f"{where}: a supervision from {own} s is outside its cut of {duration} s")
    return start + first, end - first


def _recording(values: dict, where: str) -> tuple[str, float, float]:
    """Path of a cut's file, and the cut's start and duration in it in seconds."""
    kind = str(values.get("type"))
    if kind in _OTHER:
        raise UserError(f"{where}: a {kind} ({_OTHER[kind]}) is not read; {_HINT}")
    if "supervisions" not in values:
        what = "a recording" if "sources" in values else "a supervision or a cut without supervisions"
        raise UserError(
            f"{where}: {what} of lhotse alone; join both by CutSet.from_manifests(recordings=..., "
            "supervisions=...)"
        )
    recording = values.get("recording")
    if not isinstance(recording, dict):
        only = "only features" if values.get("features") else "no recording"
        raise UserError(f"{where}: the cut has {only}, and this model computes its own; {_HINT}")
    for name, owner in (("transforms", recording), ("transforms", values)):
        if owner.get(name):
            raise UserError(f"{where}: {name!r} {short(owner[name])} change the samples; {_HINT}")
    sources, channels = recording.get("sources"), recording.get("channel_ids")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise UserError(f"{where}: 'sources' must be one file, found {short(sources)}")
    source = sources[0]
    if source.get("type") != "file" or not isinstance(source.get("source"), str) or not source["source"]:
        raise UserError(f"{where}: a source of type {short(source.get('type'))} is not read; {_HINT}")
    for several in (channels, source.get("channels")):
        if isinstance(several, list) and len(several) > 1:
            raise UserError(f"{where}: one channel of {short(several)} cannot be chosen here; {_HINT}")
    return source["source"], seconds_in(values, "start", where) or 0.0, _needed(values, "duration", where)


def _needed(values: dict, name: str, where: str) -> float:
    seconds = seconds_in(values, name, where)
    if not seconds:
        raise UserError(f"{where}: {name!r} must be seconds above 0, found {short(values.get(name))}")
    return seconds
