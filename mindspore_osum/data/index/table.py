"""The files of an index, and their writer.

    index.json            version, the command that made it, what its counts depend on, numbers of rows
    sources.parquet       the files it was made of: path, size, time, digest
    requests.parquet      the distinct sets of requests: how many tokens each request of a set adds
    part-00000.parquet    a row for each line or sample, in their order; for an unusable one why

Notable choices
- Row groups are small, so that one utterance is read without reading many; a training process reads a few
  columns of numbers whole, and everything else of a row only when it is needed.
- Paths are relative, of sources to the index and of recordings to their source: both may move together.
- Pages have checksums, which are compared when they are read.
"""

import re
from functools import cache
from pathlib import Path

from mindspore_osum.data.formats.sources import INDEX

FORMAT, VERSION = "mindspore_osum index", 1
ABOUT, SOURCES, REQUESTS = INDEX, "sources.parquet", "requests.parquet"
GROUP = 2048  # rows of a row group
PART = 512 * GROUP  # rows of a part
NUMBERS = ("frames", "tokens", "labels", "requests", "digest", "task", "reason")
"""Columns that a corpus is made of; the others are read with an utterance."""

UNKNOWN = -1
"""The frames of a row whose recording was not looked at, or has an error."""


def part_name(number: int) -> str:
    """The file with the rows from `number` * PART on."""
    return f"part-{number:05d}.parquet"


@cache
def schema():
    """The columns of a part.

    source : number of the file in sources.parquet. line : the rest of "file:line", or the key in a shard.
    wav : path of the recording, or its name in a shard, where `offset` and `size` (bytes) are given.
    extra : JSON. start, end : seconds.
    frames : mel frames before augmentation; 0 without a recording. tokens : sequence positions without the
    request and the recording. labels : targets. requests : number of the set. digest : of what is learned.
    reason, flaw : why the row cannot be used, and where. error : whether that is an error in the data.
    """
    import pyarrow as pa

    i32, i64, words = pa.int32(), pa.int64(), pa.dictionary(pa.int32(), pa.string())
    fields = {"key": pa.string(), "source": i32, "line": pa.string(), "wav": pa.string()}
    fields |= {"offset": i64, "size": i64, "start": pa.float64(), "end": pa.float64(), "txt": pa.string()}
    fields |= {"task": words, "extra": pa.string(), "frames": i32, "tokens": i32, "labels": i32}
    fields |= {"requests": i32, "digest": pa.uint64(), "reason": words, "flaw": pa.string()}
    return pa.schema([*fields.items(), ("error", pa.bool_())])


@cache
def sources_schema():
    """The columns of sources.parquet: `combined` is the list that is combined with a shard, `time` in ns."""
    import pyarrow as pa

    texts, i64 = pa.string(), pa.int64()
    return pa.schema([("path", texts), ("combined", texts), ("size", i64), ("time", i64), ("digest", texts)])


@cache
def requests_schema():
    """The column of requests.parquet."""
    import pyarrow as pa

    return pa.schema([("tokens", pa.list_(pa.int32()))])


def is_own(name: str) -> bool:
    """Whether a file of this name is one of an index."""
    return name in (ABOUT, SOURCES, REQUESTS) or bool(re.fullmatch(r"part-\d+\.parquet", name))


def write_table(path: Path, table) -> None:
    """Write a small table as a file."""
    with _writer(path, table.schema) as writer:
        writer.write_table(table)


def _writer(path: Path, columns):
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path.absolute(), columns, compression="zstd", write_page_checksum=True)


class PartWriter:
    """Writes rows to the parts of an index; but for the last, all row groups and parts are of one size."""

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, 0
        self._writer, self._waiting, self._count = None, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._writer:
            self._writer.close()

    def add(self, table) -> None:
        """Add rows at the end."""
        self._waiting.append(table.cast(schema()))
        self._count += len(table)
        if self._count >= GROUP:
            self._write(self._count - self._count % GROUP)

    def finish(self) -> None:
        """Write the rows that are left."""
        if self._count:
            self._write(self._count)

    def _write(self, count: int) -> None:
        import pyarrow as pa

        table = pa.concat_tables(self._waiting)
        for at in range(0, count, GROUP):
            if self.rows % PART == 0:
                self.__exit__()
                self._writer = _writer(self.folder / part_name(self.rows // PART), schema())
            group = table.slice(at, min(GROUP, count - at))
            self._writer.write_table(group.combine_chunks().unify_dictionaries())
            self.rows += len(group)
        self._waiting, self._count = [table.slice(count)], self._count - count
