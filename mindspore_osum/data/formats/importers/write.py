"""Writes the records of a corpus as manifests; everything left out is counted and listed.

Notable choices
- All files are first written to a folder inside OUT and moved when everything is complete.
- Paths of recordings are relative to OUT, so that OUT and the corpus can be moved together.
- Segments of long recordings get `start` and `end` (published keys of the raw list). For training, `cut`
  writes them as separate files: otherwise the whole recording is decoded for every segment.
"""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mindspore_osum.data.formats.importers.corpus import (
    FIELD_OF_TAG,
    MALFORMED,
    NO_RECORDING,
    NO_TRANSCRIPT,
    Corpus,
    Place,
    Problem,
    Record,
)
from mindspore_osum.data.formats.importers.labels import FIELDS, published_label
from mindspore_osum.data.formats.manifest import END_SLACK, Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.speech.config import SAMPLE_RATE
from mindspore_osum.tasks import format_answer, tags_of, task_of_tags, write_tags

MAX_LISTED = 10_000  # problems listed for each manifest; all of them are counted
VIDEO = "only the film: take its sound out with `ffmpeg -i FILM -ac 1 -ar 16000 RECORDING.wav`"


@dataclass
class Written:
    """A manifest while it is written, with its counts and problems."""

    stem: str  # name of its files, without suffix
    keys: set[str] = field(default_factory=set)
    labels: Counter = field(default_factory=Counter)
    problems: Counter = field(default_factory=Counter)  # kind -> utterances
    first: dict[str, str] = field(default_factory=dict)  # kind -> its first problem
    listed: list[str] = field(default_factory=list)

    def leave_out(self, problem: Problem) -> None:
        """Count a problem, and list it if fewer than MAX_LISTED are listed."""
        self.problems[problem.kind] += problem.count
        text = _printable(problem.text)
        self.first.setdefault(problem.kind, text)
        if len(self.listed) < MAX_LISTED:
            self.listed.append(f"{problem.kind}: {text}")
        elif len(self.listed) == MAX_LISTED:
            self.listed.append(f"... and more; only the first {MAX_LISTED} are listed")

    def list_problems(self, folder: Path) -> None:
        """Write the list of problems beside the manifest, if there are any."""
        if self.listed:
            write_text(folder / f"{self.stem}.problems.txt", "\n".join(self.listed) + "\n")


@dataclass
class Manifest(Written):
    """The manifest of a split and a task of a corpus."""

    corpus: Corpus = field(kw_only=True)
    split: str = field(kw_only=True)
    task: str = field(kw_only=True)  # published key

    @classmethod
    def of(cls, corpus: Corpus, split: str, task: str) -> "Manifest":
        """An empty one, named after the three."""
        tags = tags_of(task)
        stem = f"{corpus.name}-{split}-{task_of_tags(tags) or '+'.join(tags)}"
        return cls(stem, corpus=corpus, split=split, task=task)

    def example(self, record: Record) -> dict | Problem:
        """The manifest line of a record without its recording, or the problem with it."""
        if record.key in self.keys:
            return Problem("key there twice", f"{record.where}: {record.key}")
        if not _is_text(record.key + record.text + "".join(record.answers)):
            return Problem(MALFORMED, f"{record.where}: not UTF-8, or < or > in the text, which mark labels")
        wanted = {FIELD_OF_TAG[tag] for tag in tags_of(self.task)}
        labels = _labels(record, wanted)
        if isinstance(labels, Problem):
            return labels
        text = " ".join(record.text.split())
        if "text" in wanted and not text and not self.corpus.wordless:
            return Problem(NO_TRANSCRIPT, record.where)
        if "answers" in wanted and not record.answers:
            return Problem("no answer", record.where)
        answer = " ".join(record.answers[0].split()) if record.answers else None
        body = format_answer(self.task, text=text, labels=labels, answer=answer)
        extra = {"dataset": self.corpus.name, "split": self.split, **labels}
        if record.speaker:
            extra["speaker"] = record.speaker
        if "answers" in wanted:
            extra |= {"transcript": text, "answers": list(record.answers)}
        txt = body.removeprefix(write_tags(tags_of(self.task)))
        return {"key": record.key, "txt": txt, "task": self.task, "extra": extra}

    def count(self, example: dict) -> None:
        """Count an example that was written."""
        self.keys.add(example["key"])
        self.labels.update(value for name, value in example["extra"].items() if name in FIELDS)


def _is_text(text: str) -> bool:
    return not re.search(r"[<>\ud800-\udfff]", text)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _labels(record: Record, wanted: set[str]) -> dict[str, str] | Problem:
    """field -> published value of the wanted labels, or the first problem with one."""
    labels = {}
    for name in sorted(wanted & FIELDS.keys()):
        spelling = record.labels.get(name, "").strip()
        if not spelling:
            return Problem(f"no {name}", record.where)
        value = published_label(name, spelling)
        if value is None:
            return Problem(f"{name} {_printable(spelling[:40])!r} is outside the label set", record.where)
        labels[name] = value
    return labels


def write_split(
    corpus: Corpus, place: Place, tasks: list[str], folder: Path, out: Path, limit: int | None, cut: bool
) -> list[Manifest]:
    """Write the manifests of one split to `folder`, one for each task; empty ones are removed.

    Parameters
    ----------
    tasks : published keys.
    folder : temporary folder of the files, inside `out`.
    out : final folder; paths of recordings are relative to it.
    limit : most utterances per manifest; None for all.
    cut : whether segments are written as wav files under ``wav/``.
    """
    manifests = [Manifest.of(corpus, place.split, task) for task in tasks]
    files = {m.stem: open(folder / f"{m.stem}.jsonl", "w", encoding="utf-8") for m in manifests}
    segments = Segments(folder, out) if cut else None
    try:
        for item in corpus.read(place):
            open_ones = [m for m in manifests if limit is None or len(m.keys) < limit]
            if not open_ones:
                break
            wav = item if isinstance(item, Problem) else _recording(corpus, item)
            if isinstance(wav, Problem):
                for manifest in open_ones:
                    manifest.leave_out(wav)
                continue
            for manifest in open_ones:
                _write_one(manifest, files[manifest.stem], item, wav, out, segments)
    finally:
        for file in (*files.values(), *([segments] if segments else [])):
            file.close()
    for manifest in manifests:
        if not manifest.keys:
            os.remove(folder / f"{manifest.stem}.jsonl")
        manifest.list_problems(folder)
    return manifests


def _recording(corpus: Corpus, record: Record) -> Path | Problem:
    for wav in record.wavs:
        if wav.is_file():
            return wav
    for wav in record.wavs:
        for suffix in corpus.video:
            if wav.with_suffix(suffix).is_file():
                return Problem(VIDEO, f"{record.where}: {wav.with_suffix(suffix)}")
    return Problem(NO_RECORDING, f"{record.where}: {record.wavs[0]}")


def _write_one(manifest: Manifest, file, record: Record, wav: Path, out: Path, segments) -> None:
    example = manifest.example(record)
    if not isinstance(example, Problem) and record.start is not None and segments:
        wav = segments.write(wav, record)
    name = wav if isinstance(wav, Problem) else name_in(out, wav, record.where)
    for problem in (example, name):
        if isinstance(problem, Problem):
            manifest.leave_out(problem)
            return
    times = {} if record.start is None or segments else {"start": record.start, "end": record.end}
    line = {"key": example.pop("key"), "wav": name, **example, **times}
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    manifest.count(line)


def name_in(out: Path, wav: Path, where: str) -> str | Problem:
    """The path of a recording in a manifest in `out`, or a problem if it cannot be written as text."""
    name = relative(wav, out)
    if _printable(name) != name:
        return Problem("path that is not UTF-8", f"{where}: {wav}")
    return name


def relative(path: Path, folder: Path) -> str:
    """`path` relative to `folder`; absolute if that is not possible (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path.absolute())


class Segments:
    """Writes parts of long recordings as 16 kHz mono wav files, ``OUT/wav/<recording>/<key>.wav``.

    An existing file of the right length is kept, so that an interrupted import can be continued.
    """

    def __init__(self, temporary: Path, out: Path):
        self.temporary, self.out = temporary / "segment.wav", out
        self.path, self.file = None, None

    def write(self, wav: Path, record: Record | Utterance) -> Path | Problem:
        """Write the part of `wav` that belongs to `record`; the file, or the problem with it."""
        import soundfile

        from mindspore_osum.speech.audio import load_audio

        if not re.fullmatch(r"\w[\w.-]*", record.key):
            return Problem("key that is no file name", f"{record.where}: {record.key!r}")
        target = self.out / "wav" / wav.stem / f"{record.key}.wav"
        try:
            self._open(wav)
            rate = self.file.samplerate
            first, last = round(record.start * rate), round(record.end * rate)
            if not first < last <= self.file.frames + END_SLACK * rate:
                return Problem(
                    "segment outside its recording",
                    f"{record.where}: {record.key} is {record.start} to {record.end} s, "
                    f"{wav} has {self.file.frames / rate:.2f} s",
                )
            samples = -(-(min(last, self.file.frames) - first) * SAMPLE_RATE // rate)
            if target.is_file() and soundfile.info(target).frames == samples:
                return target
            self.file.seek(first)
            wave_N = load_audio((self.file.read(last - first, dtype="float32", always_2d=True), rate))
        except (soundfile.SoundFileError, UserError) as error:
            reason = " ".join(str(error).split())
            return Problem("recording cannot be read", f"{record.where}: {wav}: {reason}")
        soundfile.write(self.temporary, wave_N, SAMPLE_RATE, subtype="PCM_16")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.temporary, target)
        return target

    def _open(self, wav: Path) -> None:
        import soundfile

        if wav != self.path:
            self.close()
            self.file, self.path = soundfile.SoundFile(wav), wav

    def close(self) -> None:
        """Close the open recording."""
        if self.file:
            self.file.close()
        self.file = self.path = None
