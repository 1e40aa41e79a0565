"""Faults at every call that reads or changes a file, one by one: errors of the disk, and kills.

    python -m tests.faults                       # all; prints the table of docs/RELIABILITY.md
    python -m tests.faults --only "a checkpoint" --kills-only

Calls are counted by Python's profiler, which sees those of `os` and of open files, also inside the standard
library. A fault is raised, or the process is killed, before the call is made.
"""

import argparse
import contextlib
import errno
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint
from mindspore_osum.weights_io import Weights, WeightsWriter, info_of, open_weights

ROOT = Path(__file__).resolve().parents[1]
# calls that change files, or make a change last
CHANGES = set("open mkdir write truncate ftruncate flush close fsync fchmod chmod replace rename".split())
CHANGES |= set("unlink remove rmdir utime sendfile copy_file_range".split())
READS = set("open read readinto readline readlines stat lstat fstat scandir listdir".split())
ERRORS = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "no permission": errno.EACCES}


def touches_files(called, names: set[str]) -> bool:
    """Whether a function of C is one of `names` of the operating system, or of a file that is no stream."""
    owner = getattr(called, "__self__", None)
    if called.__name__ not in names:
        return False
    if isinstance(owner, io.IOBase):
        return not isinstance(owner, io.StringIO | io.BytesIO) and owner not in (sys.stdout, sys.stderr)
    return getattr(owner, "__name__", "") in ("posix", "io", "_io")


@contextlib.contextmanager
def at_call(number: int, act: Callable[[], None], names: set[str]) -> Iterator[Counter]:
    """Calls `act` before the call `number`, from 1, of this block; the counter has "calls"."""
    seen = Counter()

    def watch(frame, event, called):
        if event == "c_call" and touches_files(called, names):
            seen["calls"] += 1
            if seen["calls"] == number:
                act()  # what it raises, the call raises

    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def killed_at(number: int, run: Callable[[], None], names: set[str] = CHANGES) -> bool:
    """Run in a child that kills itself before its call `number`; False if it made fewer."""
    child = os.fork()
    if not child:
        try:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL), names):
                run()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


@dataclass(frozen=True)
class Job:
    """Something that writes or reads files.

    Attributes
    ----------
    begin : makes what is there before, in a folder.
    run : does it.
    state : what is there afterwards: "former", "newer" or a refusal; AssertionError if anything is half.
    """

    name: str
    begin: Callable[[Path], None]
    run: Callable[[Path], None]
    state: Callable[[Path], str]


def tensors(value: int) -> dict[str, np.ndarray]:
    """Five tensors that a number decides, together more than a file buffers."""
    values = {f"p{i}": np.full((60, 60), value * 100 + i, np.float32) for i in range(5)}
    return values | {"global_step": np.array([value], np.int32)}


def number_of(weights: Weights) -> int:
    """The number that decided the tensors; AssertionError if they are not all of one."""
    value = int(weights.read("global_step")[0])
    want = tensors(value)
    assert weights.infos.keys() == want.keys()
    assert all(np.array_equal(weights.read(name), values) for name, values in want.items())
    return value


def save_checkpoint(folder: Path, step: int) -> None:
    """As a run does, keeping two."""
    checkpoint.save(folder, step, tensors(step), {"epoch": 0, "place": step, "fingerprint": {"of": step}}, 2)


def checkpoints_before(folder: Path) -> None:
    """Two checkpoints."""
    save_checkpoint(folder, 1), save_checkpoint(folder, 2)


def checkpoint_state(folder: Path) -> str:
    """Every checkpoint is whole, and the newest is not older than that of before."""
    for step, path in checkpoint.found(folder):
        checkpoint.verify(path)
        with checkpoint.open_state(path) as weights:
            assert number_of(weights) == step == checkpoint.read_about(path)["fingerprint"]["of"]
    return {2: "former", 3: "newer"}[checkpoint.choose(folder)[0]]


def resume(folder: Path) -> None:
    """What a run reads when it goes on."""
    step, path = checkpoint.choose(folder)
    with checkpoint.open_state(path) as weights:
        assert number_of(weights) == step


def write_weights(folder: Path, value: int) -> None:
    """Weights in several files; the writer's callers make one line of its errors, as here."""
    values = tensors(value)
    try:
        with WeightsWriter(folder, {n: info_of(v) for n, v in values.items()}, None, 20_000) as out:
            for name, array in values.items():
                out.write(name, array)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None


def weights_state(folder: Path) -> str:
    """All tensors are of one writing, or they are refused."""
    try:
        with open_weights(folder) as weights:
            return {1: "former", 2: "newer"}[number_of(weights)]
    except UserError:
        return "refused"


class Network:
    """As much of a network as saving needs."""

    def __init__(self, value: int):
        self.cfg = small_config()
        self.params = {name: Tensor(array) for name, array in tensors(value).items()}

    def parameters_and_names(self):
        """Names and parameters."""
        return self.params.items()


class Tensor(SimpleNamespace):
    """As much of a parameter as saving needs."""

    def __init__(self, values: np.ndarray):
        super().__init__(values=values, shape=values.shape)

    def astype(self, dtype) -> "Tensor":
        """Itself: saving asks for float32."""
        return self

    def asnumpy(self) -> np.ndarray:
        """The values."""
        return self.values


def small_config():
    """A model description of a few kB of weights."""
    from mindspore_osum.config import from_dict, merge
    from mindspore_osum.systems.registry import preset

    part = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}
    decoder = part | {"n_kv_heads": 1, "head_dim": 4, "vocab_size": 16}
    parts = {"encoder": part, "adapter": {**part, "n_layers": 1}, "decoder": decoder, "speech_token_num": 4}
    parts["adapter"].pop("d_model")
    base = preset("tiny")
    return from_dict(type(base), merge(base.to_dict(), parts), "small")


def save_model(folder: Path, value: int) -> None:
    """As a run does at its end."""
    from mindspore_osum.folder import BUNDLED, TOKENIZER, save_folder

    sys.modules.setdefault("mindspore", SimpleNamespace(float32="float32"))  # forked without its threads
    save_folder(folder, Network(value), BUNDLED / TOKENIZER)


def model_before(folder: Path) -> None:
    """A small model folder."""
    from mindspore_osum.folder import write_config
    from mindspore_osum.systems.registry import system_of

    cfg, rng = small_config(), np.random.default_rng(0)
    shapes = system_of(cfg.model_type).shapes(cfg)
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    with WeightsWriter(folder / "source", {n: info_of(v) for n, v in values.items()}) as out:
        for name, array in values.items():
            out.write(name, array)
    write_config(folder / "source", cfg)


def convert_to(name: str) -> Callable[[Path], None]:
    """Convert the small model to a file or folder."""

    def run(folder: Path) -> None:
        from ckpt_convert.convert import convert

        convert(folder / "source", folder / name, shard_bytes=4000)

    return run


def converted_state(name: str) -> Callable[[Path], str]:
    """Nothing is there, or all of it, and no temporary file of a process that was not killed."""

    def state(folder: Path) -> str:
        from ckpt_convert.torch_reader import open_torch

        if not (folder / name).exists():
            return "former"
        with (open_torch if name.endswith(".pt") else open_weights)(folder / name) as weights:
            assert all(weights.read(key).shape == info.shape for key, info in weights.infos.items())
        return "newer"

    return state


def write_answers(folder: Path) -> None:
    """As `osum infer --output` does."""
    from mindspore_osum.commands.jsonl import writing

    with writing(str(folder / "answers.jsonl"), {}) as add:
        for i in range(3):
            add(json.dumps({"key": i}))


def text_before(folder: Path) -> None:
    """Small files."""
    folder.mkdir(parents=True)
    write_texts(folder, 1)


def write_texts(folder: Path, value: int) -> None:
    """A small text, and predictions of an evaluation."""
    from mindspore_osum.evaluation import predictions
    from mindspore_osum.files import write_text

    write_text(folder / "a.txt", str(value))
    if value > 1:
        predictions.open_run(folder / "run", {"model": "m"})
        predictions.append_predictions(folder / "run", [predictions.Prediction("k", "fixed", "raw")])


def text_state(folder: Path) -> str:
    """The text is of one writing; what is there of an evaluation can be taken up."""
    from mindspore_osum.evaluation import predictions

    predictions.open_run(folder / "run", {"model": "m"})
    return {"1": "former", "2": "newer"}[(folder / "a.txt").read_text()]


def answers_state(folder: Path) -> str:
    """The file has all lines, or is not there."""
    path = folder / "answers.jsonl"
    if path.exists():
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [0, 1, 2]
    return "newer" if path.exists() else "former"


JOBS = [
    Job("a checkpoint", checkpoints_before, lambda f: save_checkpoint(f, 3), checkpoint_state),
    Job("resuming", checkpoints_before, resume, checkpoint_state),
    Job("weights in shards", lambda f: write_weights(f, 1), lambda f: write_weights(f, 2), weights_state),
    Job("a model folder", lambda f: save_model(f, 1), lambda f: save_model(f, 2), weights_state),
    *(
        Job(f"osum convert to {kind}", model_before, convert_to(name), converted_state(name))
        for kind, name in (("a folder", "m"), ("a .pt", "m.pt"), ("a .safetensors", "m.safetensors"))
    ),
    Job("texts and predictions", text_before, lambda f: write_texts(f, 2), text_state),
    Job("answers", text_before, write_answers, answers_state),
]


def trial(job: Job, before: Path, folder: Path, number: int, code: int) -> str:
    """One error at a call: "" if there are fewer calls, else how it ended.

    "one line" (a UserError), "nothing" (the job ended well all the same), or the raw error.
    """

    def fail():
        raise OSError(code, os.strerror(code))

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    ended = "nothing"
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            with at_call(number, fail, CHANGES | READS) as seen:
                job.run(folder)
        except UserError as error:
            ended = "one line"
            assert "\n" not in str(error)
        except Exception as error:  # what a user would see as a trace
            ended = f"{type(error).__name__}: {error}"
        if seen["calls"] < number:
            return ""
        state = job.state(folder)
        assert ended != "nothing" or state == "newer" or job.name == "resuming", (ended, state)
    return ended


def errors_of(job: Job, folder: Path, codes: tuple[int, ...], every: int = 1) -> Counter:
    """How errors at every call, or at some of them, end."""
    before, ends, number = folder / "before", Counter(), 1
    job.begin(before)
    trial(job, before, folder / "run", 0, 0)  # imports what it needs
    while ended := trial(job, before, folder / "run", number, codes[number % len(codes)]):
        ends[ended] += 1
        number += every
    return ends


def all_errors_of(job: Job, folder: Path) -> Counter:
    """How each kind of error at every call ends."""
    return sum((errors_of(job, folder / str(code), (code,)) for code in ERRORS.values()), Counter())


def kills_of(job: Job, folder: Path) -> Counter:
    """What is there after a kill before every call that changes files."""
    before, run, states, number = folder / "before", folder / "run", Counter(), 1
    job.begin(before)
    while True:
        shutil.copytree(before, run)
        if not killed_at(number, lambda: job.run(run)):
            return states
        with contextlib.redirect_stderr(io.StringIO()):
            states[job.state(run)] += 1
            if job.state(run) != "newer":  # the next writing is not hindered by what a killed one left
                job.run(run)
                assert job.state(run) == "newer" or job.name == "resuming"
        shutil.rmtree(run)
        number += 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="name of a job; may be repeated")
    parser.add_argument("--kills-only", action="store_true", help="no errors of the disk")
    args = parser.parse_args()
    print(
        "| what is done | errors injected | one line | no effect | other | kills | former | newer | refused |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    began, failed = time.monotonic(), Counter()
    for job in JOBS:
        if args.only and job.name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as name:
            ends = Counter() if args.kills_only else all_errors_of(job, Path(name))
            kills = kills_of(job, Path(name) / "kills")
        raw = {end: n for end, n in ends.items() if end not in ("one line", "nothing")}
        failed.update(raw)
        numbers = [ends.total(), ends["one line"], ends["nothing"], sum(raw.values()), kills.total()]
        numbers += [kills["former"], kills["newer"], kills["refused"]]
        print("|", " | ".join(map(str, [job.name, *numbers])), "|", flush=True)
    print(f"{time.monotonic() - began:.0f} s", *failed.items(), sep="\n", file=sys.stderr)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
