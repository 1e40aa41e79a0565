"""The interface of importers: a row of a table describes a corpus, which is read as records and problems.

Notable choices
- A reader does not decide what to leave out: it yields every record, and a `Problem` for what it cannot read.
  Missing recordings, labels outside the sets and duplicate keys are all found in `write.py`.
- Only files that the wanted fields need are opened: `--task asr` works without a list of speakers.
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
    """Something that cannot go into the manifest."""

    kind: str  # problems are counted by kind
    text: str  # file:line and what is wrong there
    count: int = 1  # utterances


@dataclass(frozen=True, slots=True)
class Record:
    """One utterance as the corpus has it."""

    key: str
    wavs: tuple[Path, ...]  # possible paths of the recording; the first that exists is used
    where: str  # file:line of its transcript or label
    text: str = ""
    labels: dict[str, str] = field(default_factory=dict)  # field -> the corpus's spelling, "" if it has none
    answers: tuple[str, ...] = ()  # of a spoken question; the first is the model answer
    speaker: str = ""
    start: float | None = None  # seconds; the part of the recording that is used
    end: float | None = None


class Place(NamedTuple):
    """A split of a corpus on disk, and the fields that are wanted from it."""

    root: Path
    split: str
    path: Path  # the folder or file that `Corpus.splits` names
    wanted: frozenset[str]  # of Corpus.offers


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """A published corpus: one row of a family's table."""

    name: str
    tasks: tuple[str, ...]  # default: tasks for which OSUM (Tables 2, 5) and OSUM-Pangu (Tables 1, 4) use it
    offers: tuple[str, ...]  # of text, answers, gender, age, emotion, event, style
    needs: str  # description of what must be under ROOT
    source: str  # source of the layout
    splits: dict[str, tuple[str, ...]]  # split -> possible paths under ROOT; the first that exists is used
    wordless: bool = False  # recordings without speech: an empty transcript is complete
    segments: bool = False  # utterances are parts of longer recordings
    video: tuple[str, ...] = ()  # suffixes of videos whose audio must be extracted first

    @abstractmethod
    def read(self, place: Place) -> Iterator[Record | Problem]:
        """All records and problems of a split, in a fixed order; UserError if a whole file is missing."""

    def place(self, root: Path, split: str, wanted: frozenset[str]) -> Place | None:
        """The split under `root`; None if it does not exist."""
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
    """(file:line, row) of a table with a header: .tsv has tabs and no quotes, others have commas and quotes.

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
