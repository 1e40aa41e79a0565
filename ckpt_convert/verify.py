"""Runs a PyTorch checkpoint and the model folder made from it on the same random input, and compares."""

import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ckpt_convert.sources import is_ours
from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, check_tensors, read_config
from mindspore_osum.parameters import fill
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of
from mindspore_osum.weights_io import open_weights

TOLERANCE = 1e-4  # relative to the largest value, both sides in float32
MERGED_TOLERANCE = 5e-2  # where LoRA was merged into 16-bit weights, which rounds them


@dataclass(frozen=True)
class Stage:
    """One compared tensor: `largest` value of the reference and largest `difference`, both absolute."""

    name: str
    largest: float
    difference: float


@dataclass(frozen=True)
class Verification:
    """Result of `verify`; `ok` when every difference is within `tolerance` of the largest value."""

    reference: str
    tolerance: float
    stages: tuple[Stage, ...]

    @property
    def ok(self) -> bool:
        """Whether all stages agree."""
        return all(s.difference <= self.tolerance * s.largest for s in self.stages)

    def table(self) -> str:
        """Text for the terminal."""
        lines = [f"compared with {self.reference}, tolerance {self.tolerance:g} of the largest value"]
        lines += [
            f"  {s.name:<8} largest {s.largest:.4g}  difference {s.difference:.2e}" for s in self.stages
        ]
        return "\n".join([*lines, "  agree" if self.ok else "  DO NOT AGREE"])

    def to_dict(self) -> dict:
        """Plain values."""
        return asdict(self) | {"ok": self.ok}


def verify(
    source: str | Path,
    folder: str | Path,
    *,
    part: str = "model",
    by: str = "auto",
    frames: int = 96,
    tokens: int = 12,
    seed: int = 0,
    layers: int | None = None,
) -> Verification:
    """Compare the outputs of a checkpoint and of its converted folder, in float32.

    Parameters
    ----------
    source : the checkpoint: published file, Hugging Face folder or openai-whisper `.pt`.
    folder : the model folder converted from it.
    part : the part of the source that was converted: "model", "encoder" or "decoder".
    by : backend for the checkpoint: "torch", "mindnlp", or "auto" for torch where it is installed.
    frames : mel frames of the random input, even.
    tokens : text tokens around the speech.
    seed : of the input.
    layers : run only this number of first layers of encoder and decoder, on both sides; None for all.

    Raises
    ------
    UserError : the source is a folder of ours; neither PyTorch nor MindNLP with transformers is installed;
        the reference could not run.
    """
    if is_ours(Path(source)):
        raise UserError(f"{source}: a model folder of ours; verification needs a PyTorch checkpoint")
    whole = read_config(folder)
    system = system_of(whole.model_type)
    side = system.verification()
    cfg = side.first_layers(whole, layers)
    given = side.inputs(cfg, frames, tokens, np.random.default_rng(seed))
    what = [str(source), part, str(Path(folder) / CONFIG), str(layers or "all")]
    expected = _run_reference(what, given, by)
    by = str(expected.pop("by"))
    found = _run_ours(folder, system, cfg, given, expected)
    stages = tuple(
        Stage(name, float(np.abs(value).max()), float(np.abs(value - found[name]).max()))
        for name, value in expected.items()
    )
    has_lora = any(".lora_" in name for name in system.shapes(whole))
    rounded = whole.dtype != "float32" and not has_lora
    return Verification(by, MERGED_TOLERANCE if rounded else TOLERANCE, stages)


def _run_reference(what: list[str], given: dict, by: str) -> dict[str, np.ndarray]:
    """Run `reference.py` with the arguments `what`; returns the stages by name, and the backend's name."""
    with tempfile.TemporaryDirectory(prefix="osum_verify_") as temp:
        inputs, output = Path(temp) / "input.npz", Path(temp) / "output.npz"
        np.savez(inputs, **given)
        command = [sys.executable, "-m", "ckpt_convert.reference", *what, str(inputs), str(output), by]
        paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            hint = "; it needs transformers with torch or mindnlp" if "ModuleNotFoundError" in last else ""
            raise UserError(f"{what[0]}: the reference could not run ({last[:300]}){hint}")
        with np.load(output) as results:
            return {name: results[name] for name in results.files}


def _run_ours(
    folder: str | Path, system: System, cfg: Config, given: dict, wanted: dict
) -> dict[str, np.ndarray]:
    """The same stages computed by our cells; `cfg` may have only the first layers."""
    model = system.build(replace(cfg, dtype="float32")).set_train(False)
    with open_weights(folder) as weights:
        check_tensors(weights, system.shapes(read_config(folder)))
        fill(dict(model.parameters_and_names()), weights)
    return system.verification().stages(model, given, wanted)
