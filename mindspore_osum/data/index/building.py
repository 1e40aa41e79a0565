"""Makes an index of manifests and shards, in several processes.

Notable choices
- This process reads manifests and the lists of shards; the others open recordings, tokenize, and read shards.
  What they found is written in the order of the sources, and only so much is asked of them beforehand that
  memory stays bounded.
- What cannot be used is a row, too, with the reason: a job that takes the index counts its errors as if it
  had read the sources.
- The folder appears when it is complete. An older index in its place is replaced; nothing else is.
"""

import json
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from mindspore_osum.data.batches.batching import frames_of, recording_of
from mindspore_osum.data.batches.extractor import Extractor
from mindspore_osum.data.checks import UNUSABLE, LeftOut
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import Shard, open_source, read_listed, shards_of
from mindspore_osum.data.formats.store import line_digest
from mindspore_osum.data.index.stamps import ShardDigest, Stamp, bytes_digest, stamp_of
from mindspore_osum.data.index.table import (
    ABOUT,
    FORMAT,
    REQUESTS,
    SOURCES,
    UNKNOWN,
    VERSION,
    PartWriter,
    is_own,
    requests_schema,
    schema,
    sources_schema,
    write_table,
)
from mindspore_osum.errors import UserError
from mindspore_osum.files import check_place, ordinary, write_text
from mindspore_osum.interrupts import unfinished
from mindspore_osum.speech.opening import FilePart
from mindspore_osum.stores import Address, is_address, is_stored, place

CHUNK = 1000  # lines of a manifest that are measured at a time
_AHEAD = 3  # chunks that are asked of each process beforehand
Item = Utterance | Skipped


class Unit(NamedTuple):
    """A part of a source: lines of a manifest, or a shard that is read where it is measured."""

    source: int
    path: Path
    items: list[Item]
    shard: Shard | None


class Chunk(NamedTuple):
    """What was found in a unit: rows, their sets of requests, and for a shard the stamp of the file."""

    table: Any
    sets: list[tuple[int, ...]]
    stamp: Stamp | None
    left_out: LeftOut


@dataclass
class Built:
    """What an index holds; `frames` are those of its usable recordings."""

    sources: int = 0
    rows: int = 0
    usable: int = 0
    frames: int = 0
    left_out: LeftOut | None = None


class Measurer:
    """Makes the rows of units; each process has one."""

    def __init__(self, extractor: Extractor):
        self.extractor, self._tokens = extractor, {}

    def chunk(self, unit: Unit) -> Chunk:
        """What is in a unit."""
        stamp, items = None, unit.items
        if unit.shard:
            stamp, items, digest = stamp_of(unit.path, unit.shard.combined), [], ShardDigest()
            for item in read_listed(unit.shard):
                digest.add(item)
                items.append(item)
            stored = isinstance(unit.path, Address)
            stamp = replace(stamp, digest=bytes_digest(unit.path) if stored else digest.hexdigest())
        return self._rows(unit, items, stamp)

    def _rows(self, unit: Unit, items: list[Item], stamp: Stamp | None) -> Chunk:
        import pyarrow as pa

        columns: dict[str, list] = {name: [] for name in schema().names}
        sets: dict[tuple[int, ...], int] = {}
        left_out, headers = LeftOut(), {}
        for item in items:
            row = {"source": unit.source}
            if isinstance(item, Utterance):
                row |= _words(item, unit.path)
                item = self._measure(item, row, sets, headers)
            if item:
                left_out.add(item)
                row.setdefault("frames", UNKNOWN)
                text = item.text
                if text.startswith(f"{unit.path}:"):
                    text = text.removeprefix(str(unit.path))
                row |= {"reason": item.reason, "flaw": text, "error": item.error}
            for name, values in columns.items():
                values.append(row.get(name))
        return Chunk(pa.table(columns, schema()), list(sets), stamp, left_out)

    def _measure(self, utt: Utterance, row: dict, sets: dict, headers: dict) -> Skipped | None:
        """Add the counts of an utterance to its row, or return why it cannot be used."""
        recording, features = recording_of(utt), self.extractor.model.features
        try:
            if recording not in headers:
                headers[recording] = frames_of(utt, features)
            frames = headers[recording]
            if flaw := next(self.extractor.flaws(utt, features.seconds(frames)), None):
                return Skipped(UNUSABLE, flaw)
            row["frames"] = frames
            scanned = self.extractor.scan(utt)
            tokens = tuple(map(self._request_tokens, scanned.requests))
        except UserError as error:
            return Skipped(UNUSABLE, str(error))
        row |= {"tokens": scanned.text, "labels": scanned.labels}
        row["requests"] = sets.setdefault(tokens, len(sets))
        row["digest"] = int.from_bytes(line_digest(utt), "little")
        return None

    def _request_tokens(self, request: str | None) -> int:
        if request not in self._tokens:
            if len(self._tokens) > 100_000:  # each line has its own
                self._tokens.clear()
            self._tokens[request] = self.extractor.request_tokens(request)
        return self._tokens[request]


def _words(utt: Utterance, source: Path) -> dict:
    """The columns of an utterance that are not counted."""
    wav, row = utt.wav, {}
    if isinstance(wav, FilePart):
        row, wav = {"offset": wav.offset, "size": wav.size}, wav.name
    elif wav is not None:
        wav = wav.removeprefix(f"{source.parent}/")
    row |= {name: getattr(utt, name) for name in ("key", "txt", "task", "start", "end")}
    extra = json.dumps(utt.extra, ensure_ascii=False) if utt.extra else None
    return row | {"wav": wav, "extra": extra, "line": utt.where.removeprefix(f"{source}:")}


def build(
    sources: Sequence[str],
    out: Path,
    make_extractor: Callable[[], Extractor],
    about: dict,
    processes: int = 1,
) -> Built:
    """Make an index.

    Parameters
    ----------
    sources : manifests, shards and lists of shards.
    make_extractor : called in each process; can be pickled.
    about : `command` and `reading` of index.json; see `Index`.
    processes : that open recordings and tokenize.

    Raises
    ------
    UserError : a source cannot be read or changes meanwhile, none has a usable line, or there is something
        else at `out`.
    """
    check_output(out)
    if twice := next((source for source in sources if sources.count(source) > 1), None):
        raise UserError(f"{twice}: is given twice; each line would be learned twice")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".index-") as temporary:
            unfinished.add(Path(temporary))
            try:
                new = Path(temporary) / "new"
                new.mkdir()
                built = _Build(out, new, make_extractor).run(sources, processes, about)
                if out.exists():
                    os.replace(out, Path(temporary) / "old")
                new.chmod(ordinary(0o777))
                os.replace(new, out)
            finally:
                unfinished.discard(Path(temporary))
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from None
    return built


def check_output(out: Path) -> None:
    """UserError if an index cannot be made there."""
    check_place(out, f"--output {out}")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not names >= {ABOUT, SOURCES, REQUESTS}:
        raise UserError(f"--output {out}: is there already and no index; remove it or give another folder")
    if foreign := sorted(name for name in names if not is_own(name)):
        raise UserError(
            f"--output {out}: an index, but {foreign[0]} in it is none of its files and would be lost; move "
            "it elsewhere, or give another folder"
        )


class _Build:
    """An index while it is made."""

    def __init__(self, out: Path, new: Path, make_extractor: Callable[[], Extractor]):
        self.out, self.new, self.make_extractor = Path(os.path.abspath(out)), new, make_extractor
        self.stamps: list[Stamp] = []
        self.sets: dict[tuple[int, ...], int] = {}
        self.built = Built(left_out=LeftOut())

    def run(self, sources: Sequence[str], processes: int, about: dict) -> Built:
        """Make all files."""
        with PartWriter(self.new) as writer:
            for unit, chunk in measured(self._units(sources), self.make_extractor, processes):
                if chunk.stamp:
                    self.stamps[unit.source] = chunk.stamp
                self._count(chunk)
                writer.add(self._numbered(chunk))
            writer.finish()
        self.built.rows, self.built.sources = writer.rows, len(sources)
        if not self.built.usable:
            first = next(iter(self.built.left_out.first.values()), "they are empty")
            raise UserError(f"{', '.join(sources)}: no usable line; the first problem: {first}")
        self._check_unchanged()
        self._write(about)
        return self.built

    def _units(self, sources: Sequence[str]) -> Iterator[Unit]:
        whole = self.make_extractor().conversations
        for source in sources:
            path = place(source if is_address(source) else os.path.abspath(source))
            shards = shards_of(path)
            if shards is None:
                number = self._stamp(path)
                items = open_source(path, whole=whole)
                while chunk := list(islice(items, CHUNK)):
                    yield Unit(number, path, chunk, None)
            else:
                yield from self._shards(path, shards)

    def _shards(self, path: Path, shards: Iterable[Shard | Skipped]) -> Iterator[Unit]:
        number, lists = -1 if path.suffix == ".tar" else self._stamp(path), set()
        for shard in shards:
            if isinstance(shard, Skipped):
                yield Unit(number, path, [shard], None)
                continue
            if shard.combined and shard.combined not in lists:
                lists.add(shard.combined)
                if shard.combined.is_file():  # else its reader says so
                    self._stamp(shard.combined)
            self.stamps.append(Stamp(str(shard.tar), None, 0, 0))  # its process makes it
            yield Unit(len(self.stamps) - 1, shard.tar, [], shard)

    def _stamp(self, path: Path) -> int:
        """Add the stamp of a file that is read now; its number."""
        self.stamps.append(replace(stamp_of(path), digest=bytes_digest(path)))
        return len(self.stamps) - 1

    def _count(self, chunk: Chunk) -> None:
        import pyarrow.compute as pc

        usable = chunk.table.filter(pc.is_null(chunk.table["reason"]))
        self.built.usable += len(usable)
        self.built.frames += pc.sum(usable["frames"]).as_py() or 0
        self.built.left_out.counts += chunk.left_out.counts
        for reason, text in chunk.left_out.first.items():
            self.built.left_out.first.setdefault(reason, text)

    def _numbered(self, chunk: Chunk):
        """The rows of a chunk, with the numbers of their sets in the index."""
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = [self.sets.setdefault(tokens, len(self.sets)) for tokens in chunk.sets]
        place = chunk.table.column_names.index("requests")
        column = pc.take(pa.array(numbers, pa.int32()), chunk.table["requests"])
        return chunk.table.set_column(place, "requests", column)

    def _check_unchanged(self) -> None:
        for stamp in self.stamps:
            now = stamp_of(stamp.path)
            if (now.size, now.time) != (stamp.size, stamp.time):
                raise UserError(f"{stamp.path}: changed while it was indexed; run it again")

    def _write(self, about: dict) -> None:
        import pyarrow as pa

        relative = [
            asdict(stamp) | {"path": self._relative(stamp.path), "combined": self._relative(stamp.combined)}
            for stamp in self.stamps
        ]
        write_table(self.new / SOURCES, pa.Table.from_pylist(relative, sources_schema()))
        sets = {"tokens": [list(tokens) for tokens in self.sets]}
        write_table(self.new / REQUESTS, pa.table(sets, requests_schema()))
        values = {"format": FORMAT, "version": VERSION, "rows": self.built.rows, **about}
        write_text(self.new / ABOUT, json.dumps(values, ensure_ascii=False, indent=1) + "\n")

    def _relative(self, path: str | None) -> str | None:
        return path if path is None or is_stored(path) else os.path.relpath(path, self.out)


def measured(
    units: Iterator[Unit], make_extractor: Callable[[], Extractor], processes: int
) -> Iterator[tuple[Unit, Chunk]]:
    """Units and what is in them, in their order."""
    if processes == 1:
        measurer = Measurer(make_extractor())
        for unit in units:
            yield unit, measurer.chunk(unit)
        return
    waiting: deque = deque()
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (make_extractor,))
    try:
        for unit in units:
            waiting.append((unit._replace(items=[]), pool.submit(_chunk, unit)))
            if len(waiting) > _AHEAD * processes:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    except BrokenProcessPool:
        raise UserError(
            "a process of the index ended before its work was done, perhaps for lack of memory; give fewer "
            "--processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_measurer: Measurer | None = None  # of this process


def _start(make_extractor: Callable[[], Extractor]) -> None:
    global _measurer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    _measurer = Measurer(make_extractor())


def _chunk(unit: Unit) -> Chunk:
    return _measurer.chunk(unit)
