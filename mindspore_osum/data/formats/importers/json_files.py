"""Corpora described by a JSON file with one long array: WenetSpeech (segments of recordings) and VocalSound.

WenetSpeech.json is several gigabytes large, so the array is read element by element.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mindspore_osum.data.formats.importers.corpus import (
    MALFORMED,
    NO_RECORDING,
    Corpus,
    Place,
    Problem,
    Record,
    open_text,
)
from mindspore_osum.errors import UserError

CHUNK = 2**20  # characters read at once
MAX_ELEMENT = 2**28  # characters; no recording has a list of segments that long
OVERLAP = 100  # characters; the array's start may extend over two chunks
_BETWEEN = re.compile(r"[\s,]*")


class WenetSpeech(Corpus):
    """{"audios": [{"aid", "path", "segments": [{"sid", "begin_time", "end_time", "text", "subsets"}]}]}."""

    def read(self, place: Place) -> Iterator[Record | Problem]:
        """See `Corpus.read`; a missing recording is one problem, counted once per segment."""
        for where, audio in array_elements(place.path, "audios"):
            try:
                segments = [s for s in audio["segments"] if place.split in s["subsets"]]
                path = place.path.parent / audio["path"]
            except (KeyError, TypeError):
                yield Problem(MALFORMED, f"{where}: an audio without path or segments")
                continue
            if segments and not path.is_file():
                yield Problem(NO_RECORDING, f"{where}: {path} ({len(segments)} segments)", len(segments))
                continue
            for segment in segments:
                yield _segment(where, path, segment)


def _segment(where: str, path: Path, segment: dict) -> Record | Problem:
    key, text = segment.get("sid"), segment.get("text")
    start, end = segment.get("begin_time"), segment.get("end_time")
    times = all(isinstance(t, int | float) and math.isfinite(t) for t in (start, end)) and 0 <= start < end
    if not (isinstance(key, str) and key and isinstance(text, str) and times):
        return Problem(MALFORMED, f"{where}: segment {key!r} lacks sid, text, begin_time or a later end_time")
    return Record(key, (path,), where, text, start=float(start), end=float(end))


class VocalSound(Corpus):
    """{"data": [{"wav": ".../f0003_0_cough.wav", "labels": ...}]}; the event is the last part of the name."""

    def read(self, place: Place) -> Iterator[Record | Problem]:
        """See `Corpus.read`; of "wav" only the file name is used: its folders are those of the authors."""
        top = place.path.parent.parent
        for where, item in array_elements(place.path, "data"):
            wav = str(item.get("wav")) if isinstance(item, dict) else ""
            if match := re.fullmatch(r"((\w+)_\d+_([a-z]+))\.wav", PurePosixPath(wav).name):
                places = tuple(top / folder / match[0] for folder in ("audio_16k", "audio_44k"))
                yield Record(match[1], places, where, labels={"event": match[3]}, speaker=match[2])
            else:
                yield Problem(MALFORMED, f"{where}: 'wav' is {wav!r}, not like f0003_0_cough.wav")


@dataclass
class _Window:
    """A window that moves forward over a text file."""

    file: object
    text: str = ""
    at: int = 0  # the reader's position in `text`
    line: int = 1  # the line of this position

    def grow(self, size: int) -> bool:
        """Read more of the file; whether there was any."""
        more = self.file.read(size)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def move(self, to: int) -> None:
        """Move forward within `text`."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to


def array_elements(path: str | os.PathLike, name: str) -> Iterator[tuple[str, object]]:
    """(file:line, element) of the array under `name`, holding one element at a time.

    Raises
    ------
    UserError : the file is missing, has no such array, or is damaged or truncated within it.
    """
    with open_text(path) as file:
        window = _Window(file)
        opening = re.compile(rf'"{name}"\s*:\s*\[')
        while not (match := opening.search(window.text, window.at)):
            window.move(max(window.at, len(window.text) - OVERLAP))
            if not window.grow(CHUNK):
                raise UserError(f"{path}: no array {name!r} in it; it is another file, or was truncated")
        window.move(match.end())
        while not _at_end(window):
            where = f"{path}:{window.line}"
            element, end = _decode(window, where)
            window.move(end)
            yield where, element


def _at_end(window: _Window) -> bool:
    """Move to the next element; True at the end of the array."""
    while True:
        window.move(_BETWEEN.match(window.text, window.at).end())
        if window.at < len(window.text):
            return window.text[window.at] == "]"
        if not window.grow(CHUNK):
            return False  # the decoder reports the missing end


def _decode(window: _Window, where: str) -> tuple[object, int]:
    size = CHUNK
    while True:
        try:
            return json.JSONDecoder().raw_decode(window.text, window.at)
        except (json.JSONDecodeError, RecursionError) as error:
            if len(window.text) > MAX_ELEMENT or not window.grow(size):
                reason = getattr(error, "msg", "nested too deeply")
                raise UserError(
                    f"{where}: damaged or truncated JSON ({reason}); get the file again"
                ) from None
            size *= 2


JSON_FILES = (
    WenetSpeech(
        name="wenetspeech",
        tasks=("asr",),
        offers=("text",),
        needs="WenetSpeech.json and audio/",
        source="wenet-e2e/WenetSpeech toolkits/wenet/extract_meta.py, lhotse recipes/wenet_speech.py",
        segments=True,
        splits=dict.fromkeys(("L", "M", "S", "DEV", "TEST_NET", "TEST_MEETING"), ("WenetSpeech.json",)),
    ),
    VocalSound(
        name="vocalsound",
        tasks=("ved",),
        offers=("event",),
        needs="datafiles/<tr|val|te>.json and audio_16k/ or audio_44k/",
        source="YuanGongND/vocalsound README, src/prep_data.py, src/dataloaders.py",
        splits={
            split: (f"datafiles/{short}.json", f"data/datafiles/{short}.json")
            for split, short in (("train", "tr"), ("valid", "val"), ("test", "te"))
        },
        wordless=True,
    ),
)
