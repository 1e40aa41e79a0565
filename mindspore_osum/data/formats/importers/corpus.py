"""What an importer is: a row that describes a corpus, read as records and problems.

Notable choices
- A reader never decides what to leave out: it yields what it finds, and a `Problem` for what it cannot use.
  Missing recordings, labels outside the sets and doubled keys are found in one place, `write.py`.
- Only files that the wanted fields need are opened, so that `--task asr` does without a list of speakers.
"""

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import LABEL_SETS, tags_of, task_key

MALFORMED, NO_RECORDING, NO_TRANSCRIPT = "malformed", "no recording", "no transcript"
FIELD_OF_TAG = {"asr": "text", "chat": "answers", "align": "words"}
FIELD_OF_TAG |= {tag: labels.field for tag, labels in LABEL_SETS.items()}


class Problem(NamedTuple):
    """Something that is left out of the manifest."""

    kind: str  # problems are counted by it
    text: str  # file:line and what is wrong there
    count: int = 1  # utterances


@dataclass(frozen=True, slots=True)
class Record:
    """One utterance as the corpus has it."""

    key: str
    wavs: tuple[Path, ...]  # where the recording may lie; the first that exists counts
    where: str  # file:line of its transcript or label
    text: str = ""
    labels: dict[str, str] = field(default_factory=dict)  # field -> the corpus's spelling, "" if it has none
    answers: tuple[str, ...] = ()  # of a spoken question; the first is the model answer
    speaker: str = ""
    start: float | None = None  # seconds; the part of the recording that is meant
    end: float | None = None


class Place(NamedTuple):
    """A split of a corpus on disk, and what is wanted of it."""

    root: Path
    split: str
    path: Path  # the folder or file that `Corpus.splits` names
    wanted: frozenset[str]  # of Corpus.offers


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """A published corpus: one row of a family's table."""

    name: str
    tasks: tuple[str, ...]  # what OSUM (Tables 2, 5) and OSUM-Pangu (Tables 1, 4) use it for; the default
    offers: tuple[str, ...]  # of text, answers, gender, age, emotion, event, style
    needs: str  # what must be under ROOT, for people
    source: str  # where the layout was read
    splits: dict[str, tuple[str, ...]]  # split -> its places under ROOT; the first that exists counts
    wordless: bool = False  # its recordings hold no speech: an empty transcript is complete
    segments: bool = False  # utterances are parts of longer recordings
    video: tuple[str, ...] = ()  # suffixes of films from which the sound must be taken first

    @abstractmethod
    def read(self, place: Place) -> Iterator[Record | Problem]:
        """Everything the split holds, in a fixed order; UserError for a file that is missing altogether."""

    def place(self, root: Path, split: str, wanted: frozenset[str]) -> Place | None:
        """The split under `root`, None if it is not there."""
        paths = (root / p for p in self.splits[split])
        found = next((p for p in paths if p.exists()), None)
        return found and Place(root, split, found, wanted)

    def wanted(self, task: str) -> tuple[str, frozenset[str]]:
        """(published key, fields of the corpus) of a task; UserError if the corpus cannot serve it."""
        key = task_key(task)
        fields = {FIELD_OF_TAG[tag] for tag in tags_of(key)}
        missing = fields - set(self.offers) - ({"text"} if self.wordless and len(fields) > 1 else set())
        if missing or not fields:
            lacks = ", ".join(sorted(missing)) or "text-only examples"
            raise UserError(
                f"task {task!r}: {self.name} has no {lacks}; it offers {', '.join(self.offers)}; "
                f"the papers use it for {', '.join(self.tasks)}"
            )
        return key, frozenset(fields & set(self.offers))


def text_lines(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """(file:line, line) of the lines that are not blank; bytes that are not UTF-8 stay as lone surrogates."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", line.rstrip("\r\n")


def table_rows(path: str | os.PathLike, columns: set[str]) -> Iterator[tuple[str, dict[str, str]] | Problem]:
    """(file:line, row) of a table with a header; .tsv has tabs and no quotes, all else commas and quotes.

    Raises
    ------
    UserError : the file is missing, or its header cannot be read or lacks one of `columns`.
    """
    tabs = Path(path).suffix == ".tsv"
    with open_text(path, newline="") as file:
        style = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
        reader = csv.reader(file, **style)
        try:
            header = next(reader, [])
        except csv.Error as error:
            wanted = ", ".join(sorted(columns))
            raise UserError(f"{path}:1: no header that can be read ({error}); needs {wanted}") from None
        if missing := columns - set(header):
            found = ", ".join(header) or "nothing"
            raise UserError(f"{path}:1: no column {', '.join(sorted(missing))}; found {found}")
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Problem(MALFORMED, f"{path}:{reader.line_num}: {error}")
                continue
            if row is None:
                return
            where = f"{path}:{reader.line_num}"
            if len(row) == len(header):
                yield where, dict(zip(header, row))
            elif row:
                yield Problem(MALFORMED, f"{where}: {len(row)} fields where the header has {len(header)}")


def open_text(path: str | os.PathLike, newline: str | None = None):
    """Open a file of a corpus; bytes that are not UTF-8 become lone surrogates. UserError if that fails."""
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; see `osum data import --list` for what must be there") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror})") from None
