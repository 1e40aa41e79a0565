"""The front end: log-mel against real time, and recordings read from a tar against reading the file.

Legend: N samples.
"""

import tarfile
from pathlib import Path

import numpy as np

from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.memory import read_file
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import clocked, measure, race, show_seconds
from mindspore_osum.folder import BUNDLED

SECONDS = 10.0  # of a recording


def run(setup: Setup) -> Outcome:
    """Measure."""
    from mindspore_osum.data.formats.shards import read_shard
    from mindspore_osum.speech.audio import SAMPLE_RATE
    from mindspore_osum.speech.features import log_mel

    out, rounds = Outcome(), 3 if setup.quick else 15
    wave_N = np.random.default_rng(0).standard_normal(round(SECONDS * SAMPLE_RATE)).astype(np.float32) * 0.1
    taken = measure(lambda: log_mel(wave_N), rounds)
    out.figure("logmel_s", taken.median, f"log-mel of {SECONDS:g} s", str(taken))
    out.ratio("logmel_realtime", SECONDS / taken.median)

    path = setup.folder / "shard.tar"
    _write_tar(path, 4 * 10**6 if setup.quick else 200 * 10**6)

    def stream() -> None:
        for utt in read_shard(path):
            with open(utt.wav.path, "rb") as file:
                file.seek(utt.wav.offset)
                file.read(utt.wav.size)

    ours, raw = race(clocked(stream), lambda: read_file(path), rounds=3 if setup.quick else 5)
    size = path.stat().st_size
    share, read = raw.median / ours.median, f"{show_seconds(raw.median)}, {size / 1e6:.0f} MB"
    out.figure("tar_read_s", raw.median, "a tar, read raw", read)
    out.figure("tar_share", share, "streamed sample by sample / raw (promised 0.7)", f"{share:.2f}")
    return out


def _write_tar(path: Path, size: int) -> None:
    """A shard of 30 s recordings (0.96 MB each) with text and task, of about `size` bytes."""
    import io

    recording = next((BUNDLED.parent / "recordings").glob("*.wav")).read_bytes()
    recording += bytes(960_000 - len(recording))
    fields = {"wav": recording, "txt": b"words", "task": b"<TRANSCRIBE>"}
    with tarfile.open(path, "w") as tar:
        for n in range(max(1, size // len(recording))):
            for field, content in fields.items():
                member = tarfile.TarInfo(f"utt{n:06d}.{field}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
