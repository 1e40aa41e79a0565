"""An index, opened: columns of numbers for a corpus, and utterances one at a time."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.index.stamps import Stamp, change
from mindspore_osum.data.index.table import (
    ABOUT,
    FORMAT,
    GROUP,
    NUMBERS,
    PART,
    REQUESTS,
    SOURCES,
    VERSION,
    part_name,
    requests_schema,
    schema,
    sources_schema,
)
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import read_json
from mindspore_osum.speech.opening import FilePart
from mindspore_osum.stores import Address, is_stored, joined, list_ahead, place

_KEPT = 8  # row groups whose words are kept in memory
_ROWS = 64  # rows kept; a loader asks for each several times


def is_index(path: str | Path) -> bool:
    """Whether this is the folder of an index."""
    return (Path(path) / ABOUT).is_file()


class Index(Sequence):
    """Rows of an index: utterances, or `Skipped` for what cannot be used.

    Attributes
    ----------
    reading : what its counts depend on: model, tokenizer, requests.
    sets : for each set of requests an int array: tokens that each of its requests adds.

    Raises
    ------
    UserError : no index, one of another version, a damaged one, or one whose sources have changed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        about = read_json(self.folder / ABOUT, "an index")
        self.command = str(about.get("command"))
        if about.get("format") != FORMAT:
            raise UserError(
                f"{self.folder}: its {ABOUT} is not of `osum data index`; give a manifest or an index"
            )
        if about.get("version") != VERSION:
            raise UserError(
                f"{self.folder}: an index of version {about.get('version')}, this is version {VERSION}; "
                f"{self._again}"
            )
        self.reading, self._rows = about.get("reading"), about.get("rows")
        if not isinstance(self._rows, int) or self._rows < 1 or not isinstance(self.reading, dict):
            raise UserError(f"{self.folder / ABOUT}: damaged, its rows are missing; {self._again}")
        stamps = self._table(SOURCES, sources_schema()).to_pylist()
        self.stamps = [Stamp(**values) for values in stamps]
        tokens = self._table(REQUESTS, requests_schema())["tokens"]
        self.sets = [values.values.to_numpy() for values in tokens]
        self._lock, self._group = threading.Lock(), lru_cache(_KEPT)(self._read_group)
        self._row = lru_cache(_ROWS)(self._read_row)
        # all are opened now: what is built anew in their place does not change a run
        self._parts = [self._open(part_name(n), schema()) for n in range(-(-self._rows // PART))]
        for number, part in enumerate(self._parts):
            rows = min(PART, self._rows - number * PART)
            groups, found = -(-rows // GROUP), part.metadata
            if (found.num_rows, found.num_row_groups) != (rows, groups):
                raise UserError(
                    f"{self.folder / part_name(number)}: does not have its {rows} rows in {groups} groups; "
                    f"{self._again}"
                )
        self._check_sources()

    @property
    def _again(self) -> str:
        return f"build it anew: {self.command}"

    def _open(self, name: str, columns):
        import pyarrow.parquet as pq

        path = self.folder / name
        with self._damage(path):
            if not path.is_file():
                raise ValueError("no file")
            file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
            if not file.schema_arrow.equals(columns):
                raise ValueError("other columns")
        return file

    def _table(self, name: str, columns):
        file = self._open(name, columns)
        with self._damage(self.folder / name):
            return file.read(use_threads=False)

    @contextlib.contextmanager
    def _damage(self, path: Path) -> Iterator[None]:
        """What pyarrow says of a damaged file, as a UserError."""
        try:
            yield
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own are of these
            raise UserError(
                f"{path}: truncated, damaged or missing ({one_line(str(error), 120)}); {self._again}"
            ) from None

    def _check_sources(self) -> None:
        list_ahead([stamp.path for stamp in self.stamps])
        for stamp in self.stamps:
            path, combined = self.place(stamp.path), stamp.combined and self.place(stamp.combined)
            if found := change(stamp, path, combined):
                raise UserError(f"{self.folder}: its source {path} {found}; {self._again}")

    def place(self, path: str) -> Path | Address:
        """Where a source is now."""
        if is_stored(path):
            return place(path)
        return Path(os.path.normpath(self.folder.absolute() / path))

    def check(self, reading: dict) -> None:
        """UserError if a job reads the sources in another way than the index was made for."""
        for key in {**self.reading, **reading}:
            then, now = self.reading.get(key), reading.get(key)
            if then != now:
                raise UserError(
                    f"{self.folder}: was made for {key} {_short(then)}, the job has {_short(now)}; build it "
                    f"anew with the job's --config: {self.command}"
                )

    def numbers(self) -> Iterator[tuple[int, dict[str, np.ndarray], list[str]]]:
        """For each part its first row, its columns `NUMBERS`, and the names of tasks.

        `task` holds indices of these names; `reason` 0 for a usable row, else 1.
        """
        for number, part in enumerate(self._parts):
            with self._damage(self.folder / part_name(number)), self._lock:
                table = part.read(columns=list(NUMBERS), use_threads=False)
            tasks = table["task"].unify_dictionaries().combine_chunks()
            columns = {name: table[name].fill_null(0).to_numpy() for name in NUMBERS[:5]}
            columns["task"] = tasks.indices.fill_null(0).to_numpy(zero_copy_only=False)
            columns["reason"] = table["reason"].is_valid().to_numpy()
            yield number * PART, columns, tasks.dictionary.to_pylist()

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row) -> Utterance | Skipped:
        return self._row(range(len(self))[row])

    def _read_row(self, row: int) -> Utterance | Skipped:
        part, rest = divmod(row, PART)
        group, at = divmod(rest, GROUP)
        with self._lock:
            values = self._group(part, group).slice(at, 1).to_pylist()[0]
        source = self.place(self.stamps[values["source"]].path)
        if values["reason"] is not None:
            return Skipped(values["reason"], _with(source, values["flaw"]), values["error"])
        return self._utterance(values, source)

    def _read_group(self, part: int, group: int):
        names = [name for name in schema().names if name not in NUMBERS[:5]]
        with self._damage(self.folder / part_name(part)):
            return self._parts[part].read_row_group(group, columns=names, use_threads=False)

    def _utterance(self, values: dict, source: Path) -> Utterance:
        wav = values["wav"]
        if values["offset"] is not None:
            wav = FilePart(str(source), values["offset"], values["size"], wav)
        elif wav is not None:
            wav = joined(source.parent, wav)
        extra = json.loads(values["extra"]) if values["extra"] else {}
        words = values["key"], wav, values["txt"], values["task"], extra, values["start"], values["end"]
        return Utterance(*words, _with(source, f":{values['line']}"))


class Rows(Sequence):
    """Some rows of a part of an index, as utterances: `rows_N`, counted from the row `first` on."""

    def __init__(self, index: Index, first: int, rows_N: np.ndarray):
        self._index, self._first = index, first
        whole = len(rows_N) and rows_N[-1] == len(rows_N) - 1  # the usual case takes no memory
        self._rows_N = range(len(rows_N)) if whole else rows_N.astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows_N)

    def __getitem__(self, number) -> Utterance:
        return self._index[self._first + int(self._rows_N[number])]


def _with(source: Path, text: str) -> str:
    """A text that began with the path of its source."""
    return f"{source}{text}" if text.startswith(":") else text


def _short(value) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 60)
