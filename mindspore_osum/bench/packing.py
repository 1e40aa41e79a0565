"""Training in packs against padded batches, on lengths like AISHELL's: useful tokens a second.

Notable choices
- A useful token is a sequence position that holds something; all forms train the same network on the same
  distribution of utterances.
- Sorted dynamic batches are the published form. Nearly each has a shape of its own, which a graph is compiled
  for: over 200 steps that would take hours, so compiling and a step are measured on some of the shapes, and
  the sum over all is computed from them.

Legend: N utterances.
"""

from collections.abc import Callable

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Curve, Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.stepping import Training, example
from mindspore_osum.bench.timing import measure, show_seconds
from mindspore_osum.data.batch_forms import published_batches
from mindspore_osum.data.batching import Example, Shape, stack_batch, stack_packs
from mindspore_osum.data.packing import aishell_like, efficiency, pack_items, room_for

LEARN = ["encoder", "adapter", "lora"]
COUNT = 20000  # utterances
PACKS = (512, 1024, 2048)  # positions
PACK = 1024  # the one that is compared
STATIC_ROWS, PAD_ROWS, PAD_FRAMES = 32, 8, 3000
DYNAMIC_STEPS = 200
WEST = {"static": 2.4, "dynamic": 1.63}  # WEST's report, on a GPU: packing against both, without compiling


class Utterances:
    """Sizes like AISHELL's, and examples of them."""

    def __init__(self, cfg):
        self.cfg = cfg
        self.frames_N, self.tokens_N = aishell_like(COUNT, around=10)
        self.speech_N = -(-self.frames_N // 8)
        self.text_N = self.tokens_N - self.speech_N - 2

    def examples(self, numbers) -> list[Example]:
        """Made-up utterances of these sizes; half of the text is learned."""
        rng = np.random.default_rng(0)
        return [example(rng, self.cfg, int(self.frames_N[n]), int(self.text_N[n]), int(self.text_N[n]) // 2)
                for n in numbers]

    def padded(self, numbers, rows: int, frames: int):
        """A padded batch, and its useful tokens."""
        shape = Shape(rows, frames, int(self.text_N.max()))
        found = [[one] for one in self.examples(numbers)]
        batch = stack_batch(shape, self.cfg.encoder.n_mels, found, 100.0, float(rows))
        return batch, int(self.tokens_N[list(numbers)].sum())

    def packed(self, size: int):
        """A pack, its useful tokens, and the share of positions in use of all packs."""
        room = room_for(self.tokens_N, self.speech_N, size)
        packs = pack_items(self.tokens_N, self.speech_N, room)
        first, n_mels = packs[0], self.cfg.encoder.n_mels
        rows, starts, count = [self.examples(first.items)], [first.starts], float(len(first.items))
        batch = stack_packs(room, int(self.text_N.max()), n_mels, rows, starts, 100.0, count)
        share, _ = efficiency(packs, self.tokens_N, self.frames_N, room)
        return batch, int(self.tokens_N[list(first.items)].sum()), share


def run(setup: Setup) -> Outcome:
    """Measure."""
    out, rounds = Outcome(), 1 if setup.quick else 3
    training = Training(models.TRAIN["tiny"], LEARN)
    data = Utterances(training.cfg)

    def rate(name: str, batch, tokens: int) -> float:
        taken = measure(training.work(batch), rounds)
        out.figure(f"{name}_tokens_s", tokens / taken.median, f"useful tokens/s, {name}",
                   f"{tokens / taken.median:.0f} ({tokens} in {taken})")  # fmt: skip
        return tokens / taken.median

    shares, points = {}, []
    for size in (PACKS[0], PACK) if setup.quick else PACKS:
        batch, tokens, shares[size] = data.packed(size)
        points.append((size, rate(f"packs of {size}", batch, tokens)))
    packed = dict(points)[PACK]
    out.ratio("packing_efficiency", shares[PACK])
    _against_padded(setup, out, data, packed, rate)
    dynamic = _dynamic(setup, out, training, data, rounds)
    out.ratio("packed_vs_dynamic", packed / dynamic)
    out.curve("packing", Curve("pack size", "useful tokens/s", points))
    return out


def _against_padded(setup: Setup, out: Outcome, data: Utterances, packed: float, rate: Callable) -> None:
    static_rows, pad_rows = (4, 2) if setup.quick else (STATIC_ROWS, PAD_ROWS)
    static = rate("static", *data.padded(range(static_rows), static_rows, int(data.frames_N.max())))
    padded = rate("padded to 30 s", *data.padded(range(pad_rows), pad_rows, PAD_FRAMES))
    out.ratio("packed_vs_static32", packed / static)
    out.ratio("packed_vs_pad30", packed / padded)
    out.notes.append(f"WEST reports {WEST['static']}x of static and {WEST['dynamic']}x of dynamic batches "
                     f"on a GPU; here {packed / static:.2f}x of static")  # fmt: skip


def _dynamic(setup: Setup, out: Outcome, training: Training, data: Utterances, rounds: int) -> float:
    """Useful tokens a second of the first steps, compiling included."""
    batches = published_batches(data.frames_N, data.tokens_N, PACK)[:DYNAMIC_STEPS]
    tokens = sum(int(data.tokens_N[items].sum()) for items, *_ in batches)
    shapes = {(shape, rows) for _, shape, rows in batches}
    samples = 1 if setup.quick else 2
    compiling, steps = [], []
    for items, (frames, _), rows in batches[:: len(batches) // samples][:samples]:
        batch, _ = data.padded(items, rows, frames)
        first, taken = training.first(batch), measure(training.work(batch), rounds, warm=0).median
        compiling.append(first - taken)
        steps.append(taken)
    compile_s, step_s = np.mean(compiling), np.mean(steps)
    out.figure("dynamic_shapes", len(shapes), f"shapes of {len(batches)} sorted dynamic batches",
               f"{len(shapes)}, {show_seconds(compile_s)} to compile, {show_seconds(step_s)} a step")
    compiled = tokens / (step_s * len(batches))
    out.figure("dynamic_tokens_s_compiled", compiled, "useful tokens/s, dynamic, were all compiled",
               f"{compiled:.0f}")  # fmt: skip
    total = compile_s * len(shapes) + step_s * len(batches)
    out.figure("dynamic_tokens_s", tokens / total, "with compiling", f"{tokens / total:.1f}")
    return tokens / total
