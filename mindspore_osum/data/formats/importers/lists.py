"""Corpora described by lists: each line names an utterance, and its recording is found by that name.

LibriSpeech, AISHELL-1, AISHELL-2, KeSpeech, ESD and IEMOCAP differ in the pattern of a line, in how their
recordings are found (by search, or in a list "key path") and in where speakers are labelled; see the rows.
"""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mindspore_osum.data.formats.importers.corpus import (
    MALFORMED,
    NO_RECORDING,
    NO_TRANSCRIPT,
    Corpus,
    Place,
    Problem,
    Record,
    text_lines,
)
from mindspore_osum.errors import UserError

KEY_TEXT = r"(?P<key>\S+)(?:\s+(?P<text>\S.*))?"


@dataclass(frozen=True)
class SpeakerFile:
    """A file with a label for each speaker; its first column is the speaker."""

    path: str  # relative to the split
    column: int
    separator: str | None = None  # None: white space
    prefix: str = ""  # put before the file's speaker names to get those in keys


@dataclass(frozen=True, kw_only=True)
class ListCorpus(Corpus):
    """A corpus of lists. Paths and search patterns are relative to the split's folder."""

    lists: str  # search pattern of the lists of utterances
    line: str = KEY_TEXT  # pattern of a line, with groups: key, text, and labels by field
    other_lines: str = r"(?!)"  # pattern of lines that name no utterance
    texts: tuple[str, str] | None = None  # search and line pattern of separate transcripts
    recordings: str = ""  # search pattern of the recordings; their names are the keys
    scp: str = ""  # alternative to `recordings`: a list "key path"
    scp_from_root: bool = False  # whether its paths are relative to ROOT instead of the split
    speaker: str = r"(?!)"  # pattern whose group is the speaker in a key
    speakers: dict[str, SpeakerFile] = field(default_factory=dict)  # field -> file with its labels
    shared: bool = False  # one list for all splits; a split has the speakers that have a folder in it
    drop: str = ""  # text that is removed from transcripts
    lower: bool = False  # transcripts are all upper case and are lowered

    def read(self, place: Place) -> Iterator[Record | Problem]:
        """See `Corpus.read`."""
        tables = {}
        for name, file in self.speakers.items():
            if name in place.wanted:
                tables[name] = yield from _speaker_labels(place, file)
        texts = self._texts(place) if self.texts and "text" in place.wanted else {}
        recordings = yield from self._recordings(place)
        listed = set()
        for item in self._lines(place):
            if isinstance(item, Problem):
                yield item
                continue
            where, speaker, groups = item
            key = groups.pop("key")
            listed.add(key)
            if key not in recordings:
                yield Problem(NO_RECORDING, f"{where}: {key}")
                continue
            text = groups.pop("text", None) or texts.get(key, "")
            labels = {name: table.get(speaker, "") for name, table in tables.items()} | groups
            yield Record(key, (recordings[key],), where, self._clean(text), labels, speaker=speaker)
        lists = os.path.normpath(place.path / self.lists)
        for key in sorted(recordings.keys() - listed):
            yield Problem(NO_TRANSCRIPT, f"{recordings[key]}: not in {lists}")

    def _lines(self, place: Place) -> Iterator[tuple[str, str, dict] | Problem]:
        """(file:line, speaker, groups of `line`) of the lines that name an utterance of this split."""
        here = {p.name for p in place.path.iterdir()} if self.shared else None
        for path in _search(place, self.lists):
            for where, line in text_lines(path):
                if re.match(self.other_lines, line):
                    continue
                if not (match := re.fullmatch(self.line, line.strip())):
                    yield Problem(MALFORMED, f"{where}: {line[:80]!r}")
                    continue
                said = re.match(self.speaker, match["key"])
                speaker = said[1] if said else ""
                if here is None or speaker in here:
                    yield where, speaker, match.groupdict()

    def _clean(self, text: str) -> str:
        text = text.replace(self.drop, "") if self.drop else text
        return text.lower() if self.lower else text

    def _texts(self, place: Place) -> dict[str, str]:
        pattern, line_pattern = self.texts
        lines = (line for path in _search(place, pattern) for _, line in text_lines(path))
        matches = (re.fullmatch(line_pattern, line.strip()) for line in lines)
        return {m["key"]: m["text"] for m in matches if m}

    def _recordings(self, place: Place):
        """Generator of problems; its value is key -> path."""
        if not self.scp:
            return {Path(p).stem: Path(p) for p in _search(place, self.recordings)}
        found = {}
        for where, line in text_lines(place.path / self.scp):
            parts = line.split(maxsplit=1)
            if len(parts) == 2:
                found[parts[0]] = (place.root if self.scp_from_root else place.path) / parts[1].strip()
            else:
                yield Problem(MALFORMED, f"{where}: {line[:80]!r} is not 'key path'")
        return found


def _speaker_labels(place: Place, file: SpeakerFile):
    """Generator of problems; its value is speaker -> label."""
    labels = {}
    for where, line in text_lines(os.path.normpath(place.path / file.path)):
        parts = [p.strip() for p in line.split(file.separator)]
        if line.startswith(";"):  # a comment in LibriSpeech's SPEAKERS.TXT
            continue
        if len(parts) > file.column:
            labels[file.prefix + parts[0]] = parts[file.column]
        else:
            yield Problem(MALFORMED, f"{where}: {line[:80]!r} has no column {file.column + 1}")
    return labels


def _search(place: Place, pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, root_dir=place.path, recursive=True))
    if not found:
        missing = os.path.normpath(place.path / pattern)
        raise UserError(f"{missing}: missing; see `osum data import --list` for what must be there")
    return [os.path.normpath(place.path / name) for name in found]


LISTS = (
    ListCorpus(
        name="librispeech",
        tasks=("asr",),
        offers=("text", "gender"),
        needs="<split>/<speaker>/<chapter>/*.flac and *.trans.txt; SPEAKERS.TXT for gender",
        source="lhotse recipes/librispeech.py; SPEAKERS.TXT as quoted in lhotse recipes/libritts.py",
        splits={
            s: (s, f"LibriSpeech/{s}")
            for s in (
                "dev-clean",
                "dev-other",
                "test-clean",
                "test-other",
                "train-clean-100",
                "train-clean-360",
                "train-other-500",
            )
        },
        lists="*/*/*.trans.txt",
        recordings="*/*/*.flac",
        speaker=r"(\d+)-",
        speakers={"gender": SpeakerFile("../SPEAKERS.TXT", 1, "|")},
        lower=True,
    ),
    ListCorpus(
        name="aishell1",
        tasks=("asr", "sgc"),
        offers=("text", "gender"),
        needs="data_aishell/wav/<split>/<speaker>/*.wav (the speakers' archives unpacked), "
        "data_aishell/transcript/aishell_transcript_v0.8.txt; resource_aishell/speaker.info for gender",
        source="lhotse recipes/aishell.py; speaker.info ('0002 F', S0002 in keys) as public scripts read it",
        splits={s: (f"data_aishell/wav/{s}",) for s in ("train", "dev", "test")},
        lists="../../transcript/aishell_transcript_v0.8.txt",
        recordings="*/*.wav",
        shared=True,
        speaker=r"\w+?(S\d{4})W",
        speakers={"gender": SpeakerFile("../../../resource_aishell/speaker.info", 1, prefix="S")},
    ),
    ListCorpus(
        name="aishell2",
        tasks=("asr",),
        offers=("text", "gender"),
        needs="iOS/data and AISHELL-DEV-TEST-SET/<iOS|Android|Mic>/<dev|test>, each with wav.scp, trans.txt, "
        "wav/; spk_info.txt there for gender",
        source="kaldi egs/aishell2/s5/local/prepare_data.sh, espnet egs/aishell2; spk_info.txt (third column "
        "男 or 女) as a public manifest script reads it",
        splits={"train": ("iOS/data", "AISHELL-2/iOS/data")}
        | {
            f"{part}-{device.lower()}": (
                f"AISHELL-DEV-TEST-SET/{device}/{part}",
                f"{device}/{part}",
                f"AISHELL-2/{device}/{part}",
            )
            for part in ("dev", "test")
            for device in ("iOS", "Android", "Mic")
        },
        lists="trans.txt",
        scp="wav.scp",
        speaker=r".(.\d{4})W",
        speakers={"gender": SpeakerFile("spk_info.txt", 2, "\t")},
    ),
    ListCorpus(
        name="kespeech",
        tasks=("sgc", "sap"),
        offers=("text", "gender", "age"),
        needs="Tasks/ASR/<split>/wav.scp (paths relative to ROOT) and text; Metadata/spk2gender and spk2age",
        source="lhotse recipes/kespeech.py; Metadata/ as a public subset script lists and reads it",
        splits={
            s: (f"Tasks/ASR/{s}",)
            for s in ("train_phase1", "train_phase2", "dev_phase1", "dev_phase2", "test")
        },
        lists="text",
        scp="wav.scp",
        scp_from_root=True,
        speaker=r"([^_]+)_",
        drop="<SPOKEN_NOISE>",
        speakers={
            "gender": SpeakerFile("../../../Metadata/spk2gender", 1),
            "age": SpeakerFile("../../../Metadata/spk2age", 1),
        },
    ),
    ListCorpus(
        name="esd",
        tasks=("ser",),
        offers=("text", "emotion"),
        needs="<speaker>/<speaker>.txt (id, text, emotion, with tabs) and <speaker>/<emotion>/[<part>/]*.wav",
        source="EmoBox preprocess/scripts/esd.py; folders of parts as public loaders have them",
        splits={"all": (".",)},
        lists="[0-9]*/*.txt",
        line=r"(?P<key>\d+_\d+)\t(?P<text>[^\t]+)\t(?P<emotion>[^\t]+)",
        recordings="[0-9]*/**/*.wav",
        speaker=r"(\d+)_",
    ),
    ListCorpus(
        name="iemocap",
        tasks=("ser",),
        offers=("text", "emotion"),
        needs="Session<1-5>/, each with dialog/EmoEvaluation/Ses*.txt, dialog/transcriptions/Ses*.txt and "
        "sentences/wav/*/*.wav",
        source="EmoBox preprocess/scripts/iemocap.py; transcriptions as public parsers read them",
        splits={f"Session{n}": (f"Session{n}",) for n in range(1, 6)},
        lists="dialog/EmoEvaluation/Ses*.txt",
        other_lines=r"(?!\[)",
        line=r"\[[\d.]+ - [\d.]+\]\t(?P<key>\w+)\t(?P<emotion>\w+)\t\[.*\]",
        texts=("dialog/transcriptions/Ses*.txt", r"(?P<key>Ses\w+) \[[^\]]*\]:?\s*(?P<text>\S.*)"),
        recordings="sentences/wav/*/*.wav",
        speaker=r"(Ses\d+[FM])",
    ),
)
