"""A training step against PyTorch's, and whether the loader keeps up with it."""

import itertools

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.stepping import BETAS, CLIP, DECAY, EPS, LEARNING_RATE, Training
from mindspore_osum.bench.timing import clocked, race
from mindspore_osum.data.batches.batching import bucket_shapes, padded_batch, step_columns
from mindspore_osum.folder import BUNDLED, TOKENIZER, save_folder
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training.examples import example

# rows, seconds: the batches of both sides. All rows are full, so that PyTorch needs no masks for padding
BATCHES = {"tiny": (16, 3.0), "30m": (8, 4.5), "smollm2": (8, 2.24)}
TEXT, LABEL = 40, 16  # tokens of a row, and how many of them are learned


def run(setup: Setup) -> Outcome:
    """Measure; the ratio is the worst of all models."""
    out, ratios, heard = Outcome(), [], {}
    for name in ("tiny",) if setup.quick else BATCHES:
        rows, seconds = BATCHES[name]
        cfg = models.TRAIN[name]
        batch, training = _batch(cfg, rows, cfg.features.frames_in(seconds)), Training(cfg)
        mine, other = _against_torch(setup, out, name, training, batch)
        heard[name] = rows * seconds / mine.median
        what = f"step, {name}, {rows} x {seconds:g} s"
        out.figure(f"train_{name}_s", mine.median, f"{what}, ours", str(mine))
        out.figure(f"train_{name}_s_torch", other.median, f"{what}, PyTorch", str(other))
        ratios.append(other.median / mine.median)
    out.ratio("train_step_vs_torch", min(ratios))
    supply = _loader(setup)
    fastest = max(heard.values())
    out.figure("train_audio_s", fastest, "training takes, seconds of audio a second", f"{fastest:.0f}")
    out.figure("loader_audio_s", supply, "the loader gives", f"{supply:.0f}")
    out.ratio("loader_vs_demand", supply / fastest)
    return out


def _batch(cfg, rows: int, frames: int) -> dict[str, np.ndarray]:
    rng, sizes = np.random.default_rng(0), {"mels": cfg.features.n_mels}
    examples = [example(rng, cfg, frames, TEXT, LABEL) for _ in range(rows)]
    (shape,) = bucket_shapes(cfg, rows, [frames], TEXT)
    batch = padded_batch(system_of(cfg.model_type).columns, sizes, shape, examples)
    return batch | step_columns(rows, 0, rows, rows * LABEL)


def _against_torch(setup: Setup, out: Outcome, name: str, training: Training, batch):
    """Both steps in turns, from the same weights; their first losses are compared."""
    folder = setup.folder / name
    save_folder(folder, training.network.model, BUNDLED / TOKENIZER)
    np.savez(folder / "batch.npz", **batch)
    optimizer = {"lr": LEARNING_RATE, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "clip": CLIP}
    with setup.torch() as torch:
        theirs = torch.ask(
            "load_training",
            folder=str(folder),
            batch=str(folder / "batch.npz"),
            room=TEXT,
            optimizer=optimizer,
        )["loss"]
        step = training.work(batch)
        ours = step()
        off = abs(ours - theirs) / theirs
        out.figure(f"train_{name}_difference", off, f"first losses, {name}, relative", f"{off:.1e}")
        rounds = 2 if setup.quick else 5
        return race(clocked(step), torch.run("train_step"), rounds=rounds, warm=setup.warm)


def _loader(setup: Setup) -> float:
    """Seconds of audio a second that the loader decodes, turns into log-mel and stacks."""
    from mindspore_osum.data.batches.corpus import Corpus
    from mindspore_osum.data.batches.loader import Loader
    from mindspore_osum.text.tokenizer import open_tokenizer

    manifest = BUNDLED.parent / "recordings" / "manifest.jsonl"
    cfg = models.TRAIN["tiny"]
    shapes, tokenizer = bucket_shapes(cfg, 6, [300], 100), open_tokenizer(BUNDLED / TOKENIZER)
    extractor = system_of(cfg.model_type).extractor(cfg, tokenizer, requests="tag")
    corpus = Corpus([("bundled", manifest, 1.0)], extractor, shapes)
    loader, steps = Loader(corpus, 0), itertools.count()
    seconds = []

    def one_step() -> None:
        step = next(steps)
        loader.micro_batch(step, 0)
        seconds.append(cfg.features.seconds(sum(corpus.frames[n] for n in loader.numbers(step))))

    taken = race(clocked(one_step), rounds=6 if setup.quick else 60)[0]
    return sum(seconds[1:]) / sum(taken.seconds)
