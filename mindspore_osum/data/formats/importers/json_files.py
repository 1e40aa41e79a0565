"""Corpora described by a JSON file with one long array: WenetSpeech (segments of recordings) and VocalSound.

WenetSpeech.json is several gigabytes large, so the array is read element by element.
"""

import math
import os
import re
from collections.abc import Iterator
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
from mindspore_osum.data.formats.json_array import elements


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


def array_elements(path: str | os.PathLike, name: str) -> Iterator[tuple[str, object]]:
    """(file:line, element) of the array under `name`, holding one element at a time.

    Raises
    ------
    UserError : the file is missing, has no such array, or is damaged or truncated within it.
    """
    missing = f"no array {name!r} in it; it is another file, or was truncated"
    with open_text(path) as file:
        opening = re.compile(rf'"{name}"\s*:\s*\[')
        for line, element in elements(file, str(path), opening, missing):
            yield f"{path}:{line}", element


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
