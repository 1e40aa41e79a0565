"""A corpus of ten million lines from an index: seconds to its first batch, and what memory it takes.

The index is synthetic: rows of the bundled recordings, scanned, are repeated under other keys.
"""

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Curve, Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import show_seconds
from mindspore_osum.data.index.building import build
from mindspore_osum.data.index.table import ABOUT, GROUP, REQUESTS, SOURCES, PartWriter, part_name
from mindspore_osum.files import read_json
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.systems.registry import system_of

ROWS, QUICK = (1_000_000, 10_000_000), (20_000, 60_000)
_MANIFEST = BUNDLED.parent / "recordings" / "manifest.jsonl"
_BATCHES = 100  # after the first, whose memory is measured, too
_WRITTEN = 64 * GROUP  # rows at a time


def run(setup: Setup) -> Outcome:
    """Measure."""
    out, points = Outcome(), []
    small = setup.folder / "small"
    build([str(_MANIFEST)], small, extractor, {"command": "osum bench index", "reading": {}})
    for rows in QUICK if setup.quick else ROWS:
        folder = setup.folder / str(rows)
        write_repeated(small, folder, rows)
        size = sum(path.stat().st_size for path in folder.iterdir())
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # whose memory ends with it
            seconds, taken, more = pool.submit(first_batch, folder).result()
        shutil.rmtree(folder)
        points.append((rows, taken))
        out.figure(f"index_{rows}_s", seconds, f"{rows:,} lines, first batch", show_seconds(seconds))
        out.figure(
            f"index_{rows}_bytes",
            taken / rows,
            f"{rows:,} lines, memory",
            f"{taken / 1e6:.0f} MB, {taken / rows:.0f} bytes a line ({size / rows:.0f} on disk); "
            f"{more / 1e6:.1f} MB more after {_BATCHES} batches",
        )
    out.ratio("index_first_batch_s", seconds)
    out.curve("index_memory", Curve("lines", "bytes of memory", points))
    return out


def extractor():
    """Of a small OSUM model, with its bundled tokenizer."""
    from mindspore_osum.text.tokenizer import open_tokenizer

    cfg = models.TRAIN["tiny"]
    return system_of(cfg.model_type).extractor(cfg, open_tokenizer(BUNDLED / TOKENIZER), requests="tag")


def write_repeated(small: Path, folder: Path, rows: int) -> None:
    """An index whose rows are those of `small`, again and again, with keys of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for name in (SOURCES, REQUESTS):
        shutil.copy(small / name, folder)
    stamps = pq.read_table(folder / SOURCES).to_pylist()
    stamps = [stamp | {"path": str(_MANIFEST)} for stamp in stamps]
    pq.write_table(pa.Table.from_pylist(stamps, pq.read_schema(folder / SOURCES)), folder / SOURCES)
    table = pq.read_table(small / part_name(0))
    table = table.set_column(
        table.column_names.index("wav"),
        "wav",
        pa.array([str(_MANIFEST.parent / w.as_py()) for w in table["wav"]]),
    )
    with PartWriter(folder) as writer:
        for first in range(0, rows, _WRITTEN):
            numbers = np.arange(first, min(first + _WRITTEN, rows))
            part = table.take(numbers % len(table))
            part = part.set_column(0, "key", pa.array([f"u{n:09d}" for n in numbers.tolist()]))
            writer.add(part)
        writer.finish()
    about = read_json(small / ABOUT) | {"rows": rows}
    (folder / ABOUT).write_text(json.dumps(about), "utf-8")


def first_batch(folder: Path) -> tuple[float, int, int]:
    """Seconds until a process has its first batch; bytes of memory at its peak, and more of more batches."""
    from mindspore_osum.data.batches.batching import bucket_shapes
    from mindspore_osum.data.batches.corpus import Corpus
    from mindspore_osum.data.batches.loader import Loader

    made = extractor()
    shapes = bucket_shapes(made.model, 16, [200, 300], 100)
    before, start = _memory("VmRSS"), time.perf_counter()
    loader = Loader(Corpus([("all", folder, 1.0)], made, shapes), 0)
    loader.micro_batch(0, 0)
    seconds, taken = time.perf_counter() - start, _memory("VmHWM") - before
    for step in range(1, _BATCHES + 1):
        loader.micro_batch(step, 0)
    return seconds, taken, _memory("VmHWM") - before - taken


def _memory(name: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
