"""Conversion holds about one tensor in memory, however large the checkpoint is."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ckpt_convert.plan import adapted
from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.models.llama.config import DecoderConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.weights_io import TensorInfo

ROOT = Path(__file__).resolve().parents[2]
# peak resident memory of this very process: ru_maxrss would include what the parent had before exec
MEASURE = """
import json, sys, time
from mindspore_osum.cli import main
started = time.process_time()
status = main(sys.argv[1:])
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"status": status, "peak": peak * 1024, "cpu": time.process_time() - started}))
"""
OVERHEAD = 100e6  # interpreter, numpy, the key tables


def make_checkpoint(path: Path, cfg: ModelConfig) -> tuple[int, int]:
    """A published checkpoint in bfloat16 with values in [0.5, 1); its size and that of its largest tensor."""
    shapes, published = SYSTEM.shapes(cfg), SYSTEM.forms(cfg)["published"]
    infos = {
        published.theirs(n, adapted(n, shapes), peft=True): TensorInfo("BF16", s) for n, s in shapes.items()
    }
    rng = np.random.default_rng(0)
    block = (rng.integers(0, 128, 1 << 20, dtype=np.uint16) + 0x3F00).view(np.uint8)
    with TorchWriter(path, infos, {}) as writer:
        for name, info in infos.items():
            writer.write_raw(name, np.resize(block, info.nbytes))
    sizes = [info.nbytes for info in infos.values()]
    return sum(sizes), max(sizes)


def run(*arguments) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, "convert", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == 0, done.stderr
    return result


def check(tmp_path: Path, cfg: ModelConfig, at_least: float) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to measure peak memory")
    total, largest = make_checkpoint(tmp_path / "a.pt", cfg)
    assert total >= at_least and largest < 0.25 * total
    told = [
        "--preset",
        "osum_pangu_7b",
        "--set",
        f"encoder.n_heads={cfg.encoder.n_heads}",
        "--set",
        f"decoder.n_heads={cfg.decoder.n_heads}",
        "--set",
        "decoder.eos_id=4",
    ]
    for source, target, options in (
        ("a.pt", "m", told),
        ("m", "b.pt", []),
        ("m", "merged", ["--merge-lora"]),
    ):
        result = run(tmp_path / source, "--output", tmp_path / target, *options)
        speed = total / 1e6 / result["cpu"]
        print(
            f"{target}: {total / 1e6:.0f} MB, peak {result['peak'] / 1e6:.0f} MB, {speed:.0f} MB a CPU second"
        )
        # merging holds a weight, its sum and a block in float64
        assert result["peak"] < (2 if options == ["--merge-lora"] else 1) * largest + OVERHEAD
        if target == "b.pt":
            (tmp_path / "b.pt").unlink()


SMALLER = replace(
    ModelConfig(),
    encoder=EncoderConfig(n_layers=1),
    decoder=DecoderConfig(n_layers=2, d_model=1024, n_heads=8, n_kv_heads=2, d_ff=2048, vocab_size=16000),
)


def test_peak_memory_small(tmp_path):
    check(tmp_path, SMALLER, 200e6)


@pytest.mark.slow
def test_peak_memory_of_two_gigabytes(tmp_path):
    check(
        tmp_path, replace(ModelConfig(), decoder=replace(DecoderConfig(), n_layers=3, vocab_size=32000)), 2e9
    )
