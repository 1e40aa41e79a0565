"""Training in packs against padded batches, on lengths like AISHELL's: useful tokens a second.

Notable choices
- A useful token is a sequence position that is not padding; all forms train the same network on the same
  distribution of utterances.
- Sorted dynamic batches are the published form. Nearly each has a shape of its own, for which a graph is
  compiled: over 200 steps that would take hours, so compiling and a step are measured on some of the shapes,
  and the sum over all is computed from them.
- Each form has a process of its own: a compiled graph keeps its memory, and all together need over 20 GB.

Legend: N utterances.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Curve, Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.stepping import Training
from mindspore_osum.bench.timing import Timing, measure, show_seconds
from mindspore_osum.data.batches.batching import (
    bucket_shapes,
    packed_batch,
    padded_batch,
    step_columns,
)
from mindspore_osum.data.batches.extractor import Example
from mindspore_osum.data.batches.forms import published_batches
from mindspore_osum.data.batches.packing import aishell_like, efficiency, pack_items, room_for
from mindspore_osum.errors import UserError
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training.examples import example

LEARN = ["encoder", "adapter", "lora"]
COUNT = 20000  # utterances
PACKS = (512, 1024, 2048)  # positions
PACK = 1024  # the one that is compared
STATIC_ROWS, PAD_ROWS, PAD_FRAMES = 32, 8, 3000
DYNAMIC_STEPS = 200
WEST = {"static": 2.4, "dynamic": 1.63}  # WEST's report, on a GPU: packing against both, without compiling


class Utterances:
    """Sizes like AISHELL's, and examples of them."""

    def __init__(self):
        self.cfg = models.TRAIN["tiny"]
        self.columns = system_of(self.cfg.model_type).columns
        self.sizes = {"mels": self.cfg.features.n_mels}
        self.frames_N, self.tokens_N = aishell_like(self.cfg, COUNT, around=10)
        self.speech_N = self.cfg.tokens(self.frames_N)
        self.text_N = self.tokens_N - self.speech_N - 2

    def examples(self, numbers) -> list[Example]:
        """Made-up utterances of these sizes; half of the text is learned."""
        rng = np.random.default_rng(0)
        return [
            example(rng, self.cfg, int(self.frames_N[n]), int(self.text_N[n]), int(self.text_N[n]) // 2)
            for n in numbers
        ]

    def batch(self, numbers, rows: int, frames: int):
        """A padded batch, and its useful tokens."""
        (shape,) = bucket_shapes(self.cfg, rows, [frames], int(self.text_N.max()))
        batch = padded_batch(self.columns, self.sizes, shape, self.examples(numbers))
        batch |= step_columns(rows, 0, float(rows), 100.0)
        return batch, int(self.tokens_N[list(numbers)].sum())

    def padded(self, rows: int, frames: int = 0):
        """A batch of the first, padded to `frames` or the longest of all; its useful tokens."""
        return self.batch(range(rows), rows, frames or int(self.frames_N.max()))

    def packs(self, size: int):
        """All in packs of this many positions: the capacity of a pack, and the packs."""
        room = room_for(self.cfg, self.tokens_N, self.speech_N, size)
        return room, pack_items(self.tokens_N, self.speech_N, room)

    def packed(self, size: int):
        """The first pack, and its useful tokens."""
        room, (first, *_) = self.packs(size)
        text, rows = int(self.text_N.max()), [self.examples(first.items)]
        batch = packed_batch(self.columns, self.sizes, room, text, rows, [first.starts])
        batch |= step_columns(1, 0, float(len(first.items)), 100.0)
        return batch, int(self.tokens_N[list(first.items)].sum())

    def share(self, size: int) -> float:
        """Share of the positions of all packs that is in use."""
        room, packs = self.packs(size)
        return efficiency(packs, self.tokens_N, self.frames_N, room)[0]

    def dynamic(self):
        """The first sorted dynamic batches."""
        return published_batches(self.frames_N, self.tokens_N, PACK)[:DYNAMIC_STEPS]


def run(setup: Setup) -> Outcome:
    """Measure."""
    out, rounds = Outcome(), 1 if setup.quick else 3
    sizes = (PACKS[0], PACK) if setup.quick else PACKS

    def rate(name: str, build: Callable, *shape: int) -> float:
        tokens, taken = _alone(_timed, rounds, build, *shape)
        out.figure(
            f"{name}_tokens_s",
            tokens / taken.median,
            f"useful tokens/s, {name}",
            f"{tokens / taken.median:.0f} ({tokens} in {taken})",
        )
        return tokens / taken.median

    points = [(size, rate(f"packs of {size}", Utterances.packed, size)) for size in sizes]
    packed = dict(points)[PACK]
    static = rate("static", Utterances.padded, 4 if setup.quick else STATIC_ROWS)
    padded = rate("padded to 30 s", Utterances.padded, 2 if setup.quick else PAD_ROWS, PAD_FRAMES)
    shapes = _alone(_dynamic, 1 if setup.quick else 2, rounds)
    out.ratio("packing_efficiency", Utterances().share(PACK))
    out.ratio("packed_vs_static32", packed / static)
    out.ratio("packed_vs_pad30", packed / padded)
    out.ratio("packed_vs_dynamic", packed / _dynamic_rate(out, *shapes))
    out.curve("packing", Curve("pack size", "useful tokens/s", points))
    out.notes.append(
        f"WEST reports {WEST['static']}x of static and {WEST['dynamic']}x of dynamic batches "
        f"on a GPU; here {packed / static:.2f}x of static"
    )
    return out


def _alone(work: Callable, *given):
    """`work` in a process of its own, whose memory ends with it."""
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(work, *given).result()
    except BrokenProcessPool:
        raise UserError("packing: its process was ended, probably for want of memory") from None


def _timed(rounds: int, build: Callable, *sizes: int) -> tuple[int, Timing]:
    """Useful tokens of the batch that `build` makes of utterances, and the time of a step on it."""
    batch, tokens = build(Utterances(), *sizes)
    return tokens, measure(Training(models.TRAIN["tiny"], LEARN).work(batch), rounds)


def _dynamic(samples: int, rounds: int) -> tuple[float, float]:
    """Seconds to compile a sorted dynamic batch and of a step on it, means over some of the first steps."""
    data, training = Utterances(), Training(models.TRAIN["tiny"], LEARN)
    batches = data.dynamic()
    compiling, steps = [], []
    for items, (frames, _), rows in batches[:: len(batches) // samples][:samples]:
        batch, _ = data.batch(items, rows, frames)
        first, taken = training.first(batch), measure(training.work(batch), rounds, warm=0).median
        compiling.append(first - taken)
        steps.append(taken)
    return float(np.mean(compiling)), float(np.mean(steps))


def _dynamic_rate(out: Outcome, compile_s: float, step_s: float) -> float:
    """Useful tokens a second of the first steps, compiling included."""
    data = Utterances()
    batches = data.dynamic()
    tokens = sum(int(data.tokens_N[items].sum()) for items, *_ in batches)
    shapes = {(shape, rows) for _, shape, rows in batches}
    out.figure(
        "dynamic_shapes",
        len(shapes),
        f"shapes of {len(batches)} sorted dynamic batches",
        f"{len(shapes)}, {show_seconds(compile_s)} to compile, {show_seconds(step_s)} a step",
    )
    compiled = tokens / (step_s * len(batches))
    out.figure(
        "dynamic_tokens_s_compiled",
        compiled,
        "useful tokens/s, dynamic, were all compiled",
        f"{compiled:.0f}",
    )
    total = compile_s * len(shapes) + step_s * len(batches)
    out.figure("dynamic_tokens_s", tokens / total, "with compiling", f"{tokens / total:.1f}")
    return tokens / total
