"""Loading a model folder against reading its file, and the time from the command to its first answer."""

import gc
import os
import subprocess
import sys
import time

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.memory import forget_file, read_file
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import race
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, TOKENIZER, WEIGHTS, load_folder, save_folder
from mindspore_osum.inference import graph_cache


def run(setup: Setup) -> Outcome:
    """Measure."""
    out = Outcome()
    sizes = {"": models.DECODER_QUICK} if setup.quick else {"": models.CONVERTED, "large_": models.LARGE}
    for name, cfg in sizes.items():
        _against_reading(setup, out, name, cfg)
    _first_answer(setup, out)
    return out


def _against_reading(setup: Setup, out: Outcome, name: str, cfg) -> None:
    """Loading a folder with such a model against reading its file, both from memory and from the disk."""
    folder = setup.folder / f"{name}model"
    save_folder(folder, models.build(cfg), BUNDLED / TOKENIZER)
    path = folder / WEIGHTS

    def load() -> float:
        start = time.perf_counter()
        for param in load_folder(folder).get_parameters():
            float(param.asnumpy().sum())  # weights that are only mapped are read now
        return time.perf_counter() - start

    def read() -> float:
        return read_file(path)

    def cold(run):
        def after_forgetting() -> float:
            gc.collect()  # the model of the last run maps the file
            forget_file(path)
            return run()

        return after_forgetting

    size, rounds = path.stat().st_size / 1e6, 2 if setup.quick else 5
    cases = {"warm": ("in memory already", load, read), "cold": ("from the disk", cold(load), cold(read))}
    for key, (what, *runs) in cases.items():
        loads, reads = race(*runs, rounds=rounds)
        ratio = loads.median / reads.median
        out.figure(
            f"load_{name}vs_read_{key}",
            ratio,
            f"load / read {size:,.0f} MB {what} (promised 1.5)",
            f"{ratio:.2f}: {loads}, {reads}",
        )


def _first_answer(setup: Setup, out: Outcome) -> None:
    """`osum infer` of one recording in a new process, with its graphs on disk already and without."""
    recording = BUNDLED.parent / "recordings" / "test_000000.wav"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def command(*words: str, graphs: str = str(setup.folder / "graphs")):
        def run() -> float:
            start = time.perf_counter()
            there = env | {graph_cache.FOLDER: graphs}
            done = subprocess.run([sys.executable, *words], env=there, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{' '.join(words[:3])}: {done.stderr.strip().splitlines()[-1]}")
            return time.perf_counter() - start

        return run

    infer = ("-m", "mindspore_osum", "infer", str(recording), "--model", str(BUNDLED))
    rounds = 1 if setup.quick else 5
    commands = command(*infer), command(*infer, graphs="off"), command("-c", "import mindspore")
    whole, compiled, library = race(*commands, rounds=rounds)
    own = whole.median - library.median
    out.figure("first_answer_compiled_s", compiled.median, "first answer, graphs compiled", str(compiled))
    out.figure("import_mindspore_s", library.median, "first answer: of it `import mindspore`", str(library))
    out.figure("first_answer_own_s", own, "first answer: ours (promised 4 s)", f"{own:.1f} s")
    out.ratio("first_answer_s", whole.median)
