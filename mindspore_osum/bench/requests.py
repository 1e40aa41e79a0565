"""A thousand mixed requests to the bundled model: what is compiled after warm-up, and how many it answers.

Notable choices
- Graphs are counted in MindSpore's own table of compiled ones, not by the generator's own count.
- The warm-up is each recording alone and a batch of all, for every request asked later.
"""

import json
import time

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED

REQUESTS = 1000
BATCH = 8
_FREE = ("What does the speaker say?", "How old is the speaker?")


def graphs() -> int:
    """Graphs that MindSpore has compiled in this process."""
    from mindspore.common import api

    return len(api.ms_compile_cache)


def run(setup: Setup) -> Outcome:
    """Measure."""
    models.use_cpu()
    from mindspore_osum.inference.engine import Engine
    from mindspore_osum.inference.request import make_request
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.tasks import TASKS

    out, count = Outcome(), 40 if setup.quick else REQUESTS
    manifest = (BUNDLED.parent / "recordings" / "manifest.jsonl").read_text("utf-8")
    files = [BUNDLED.parent / "recordings" / json.loads(line)["wav"] for line in manifest.splitlines()]
    kinds = [make_request(task) for task in TASKS if make_request_allowed(task)]
    kinds += [make_request(instruction=words) for words in _FREE]
    asked = [(files[n % len(files)], kinds[(n // len(files) + n) % len(kinds)]) for n in range(count)]
    engine, sampling = Engine(BUNDLED), Sampling(max_new_tokens=32)

    def answer(pairs, size: int) -> None:
        sources, requests = zip(*pairs, strict=True)
        for result in engine.answer_each(sources, requests=requests, sampling=sampling, batch_size=size):
            if result.error:
                raise UserError(result.error)

    start = time.perf_counter()
    warm = [(file, kind) for kind in kinds for file in files]
    answer(warm, BATCH)
    for pair in warm[:: 1 if not setup.quick else len(warm)]:
        answer([pair], 1)
    before, warm_seconds = graphs(), time.perf_counter() - start
    start = time.perf_counter()
    half = count // 2
    answer(asked[:half], BATCH)
    for pair in asked[half:] if not setup.quick else []:
        answer([pair], 1)
    seconds = time.perf_counter() - start
    out.figure("requests_graphs", before, "graphs after warm-up", f"{before} in {warm_seconds:.1f} s")
    out.figure(
        "requests_s",
        count / seconds,
        f"{count} mixed requests, half in batches of {BATCH}",
        f"{count / seconds:.1f} a second",
    )
    out.ratio("recompiles", graphs() - before)
    return out


def make_request_allowed(task: str) -> bool:
    """Whether the task is asked of a recording."""
    from mindspore_osum.inference.request import make_request

    try:
        make_request(task)
    except UserError:
        return False
    return True
