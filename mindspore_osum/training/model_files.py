"""The model folder a run starts from and the one it writes.

Notable choices
- The start model is identified by a digest of samples of its weights, not by its path: if the weights have
  changed, a later stage is neither resumed nor considered finished.
- The first process writes the model and the others wait, so that the next stage can start from it.
"""

import hashlib
import math
import time
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, save_folder
from mindspore_osum.parameters import fill
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training import checkpoint
from mindspore_osum.training.config import MODEL
from mindspore_osum.training.report import say
from mindspore_osum.weights_io import open_weights

_BLOCKS, _BLOCK = 16, 4096  # samples read of each tensor: number, bytes each
SCHEDULER_WAITS = 1800.0  # seconds: nothing else ends msrun's scheduler if the first process has failed


def weights_digest(folder: str) -> str:
    """Digest of a folder's weights: names, dtypes, shapes and samples of every tensor.

    Small tensors are read in full, larger ones in blocks spread over the tensor; any training changes those.
    """
    total = hashlib.sha256()
    with open_weights(folder) as weights:
        for name, info in sorted(weights.infos.items()):
            raw = weights.raw(name)
            total.update(f"{name} {info.dtype} {info.shape}\n".encode())
            for place in range(0, raw.nbytes, max(_BLOCK, raw.nbytes // _BLOCKS)):
                total.update(raw[place : place + _BLOCK])
    return total.hexdigest()[:16]


def written_at(folder: Path) -> int:
    """When the model in a run's folder was complete (ns since 1970); 0 where there is none."""
    try:
        return (folder / MODEL / CONFIG).stat().st_mtime_ns  # it is written last
    except FileNotFoundError:
        return 0


def write_model(run, network) -> None:
    """Write the run's model folder in the first process, from what `network()` gives; the others wait."""
    if run.rank == 0:
        save_folder(run.folder / MODEL, network(), run.cfg.tokenizer)
        say(f"the model: {run.folder / MODEL}")
    until = time.monotonic() + (SCHEDULER_WAITS if run.rank == run.ranks else math.inf)
    while written_at(run.folder) == run.written:
        if time.monotonic() > until:
            raise UserError(f"{run.folder / MODEL}: the first process did not write it; see what it says")
        time.sleep(0.1)


def is_written(run) -> bool:
    """Whether the model of the run's newest checkpoint was written; a run may stop between the two."""
    return run.written > (run.resume / checkpoint.MARKER).stat().st_mtime_ns


def restored(path: Path, model, start: str, seed: int, learn: list[str]):
    """The full model of a checkpoint, whatever layout it was sharded in.

    Parameters
    ----------
    path : the checkpoint.
    model : its description.
    start, seed : the model folder the run started from, or "" for random weights of that seed.
    learn : parts that were trained: the checkpoint must have all of them.

    Raises
    ------
    UserError : the checkpoint is gone or incomplete, or the start model has changed.
    """
    system = system_of(model.model_type)
    known = checkpoint.read_about(path)["fingerprint"].get("start_weights", "")
    if start and known and known != weights_digest(start):
        raise UserError(f"{start}: its weights have changed since {path} was written; bring them back")
    network = system.build(model)
    params = {f"model.{name}": param for name, param in network.parameters_and_names()}
    with checkpoint.open_state(path) as weights:
        part_of, of_speech = system.job.part_of, set(system.job.speech_parts)
        kept = [name for name in weights.infos if name.startswith("model.")]
        has_speech = any(name.split(".")[1] in of_speech for name in kept)
        of_text = not has_speech and {part_of(name) for name in kept} - of_speech  # a job without these
        asked = set(learn) - (of_speech if of_text else set())
        lost = sorted(name for name in params if part_of(name) in asked and name not in weights.infos)
        if lost:
            raise UserError(
                f"{path}: {len(lost)} tensors that learned are missing, e.g. {lost[0]}; it was "
                "removed or is damaged, use another checkpoint"
            )
        fill({name: param for name, param in params.items() if name in weights.infos}, weights)
    known = {name.removeprefix("model.") for name in kept}
    if start:
        known |= checkpoint.load_start(network, start, seed, known)
    system.init_weights(network, seed, known)
    return network
