"""Conversion of a published checkpoint: bytes a second against the disk, and peak memory."""

import json
import subprocess
import sys

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.memory import write_bandwidth
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import race
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, CONFIG, TOKENIZER, save_folder

_MEASURED = """\
import json, pathlib, re, shutil, sys, time
from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
start = time.perf_counter()
convert(sys.argv[1], sys.argv[2], settings=Settings(config=sys.argv[3]))
seconds = time.perf_counter() - start
status = pathlib.Path("/proc/self/status").read_text()  # getrusage would count the parent's memory too
print(json.dumps({"seconds": seconds, "kb": int(re.search(r"VmHWM:\\s*(\\d+)", status)[1])}))
shutil.rmtree(sys.argv[2])
"""


def run(setup: Setup) -> Outcome:
    """Measure; the conversion is a process of its own, so that its memory can be measured."""
    out = Outcome()
    model = models.build(models.DECODER_QUICK if setup.quick else models.CONVERTED)
    ours, published = setup.folder / "ours", setup.folder / "published.pt"
    save_folder(ours, model, BUNDLED / TOKENIZER)
    from ckpt_convert.convert import convert

    convert(ours, published)
    largest = max(p.size * p.itemsize for p in model.get_parameters())
    size, peaks = published.stat().st_size, []

    def converted() -> float:
        command = [
            sys.executable,
            "-c",
            _MEASURED,
            str(published),
            str(setup.folder / "again"),
            str(ours / CONFIG),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"the conversion failed: {done.stderr.strip().splitlines()[-1]}")
        result = json.loads(done.stdout)
        peaks.append(result["kb"] * 1024)
        return result["seconds"]

    def written() -> float:
        return size / write_bandwidth(setup.folder / "disk", size)

    mine, disk = race(converted, written, rounds=2 if setup.quick else 5)
    out.figure(
        "convert_mb_s",
        size / mine.median / 1e6,
        f"conversion of {size / 1e6:.0f} MB",
        f"{size / mine.median / 1e6:.0f} MB/s, {mine}",
    )
    out.figure(
        "disk_write_mb_s",
        size / disk.median / 1e6,
        "the disk, written and synced",
        f"{size / disk.median / 1e6:.0f} MB/s, {disk}",
    )
    out.ratio("convert_vs_disk", disk.median / mine.median)
    out.figure(
        "convert_peak_mb",
        max(peaks) / 1e6,
        "peak memory (promised: largest tensor + 600 MB)",
        f"{max(peaks) / 1e6:.0f} MB, largest tensor {largest / 1e6:.0f} MB",
    )
    return out
