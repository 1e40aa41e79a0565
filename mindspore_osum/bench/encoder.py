"""Encoder: time against PyTorch's at 30 s, against its own at 4.5 s, and as audio grows.

Legend: T mel frames, F mel bins.
"""

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Curve, Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import clocked, cores_used, measure, race

WINDOW = 30.0  # s, what stock Whisper pads everything to
SHORT = 4.5  # s, mean of AISHELL-1
LENGTHS = (SHORT, 7.5, 15.0, 22.5, WINDOW)


def run(setup: Setup) -> Outcome:
    """Measure."""
    import mindspore as ms
    from mindspore import Tensor

    out = Outcome()
    model = models.build(models.ENCODER_QUICK if setup.quick else models.ENCODER)
    graph, hears = ms.jit(model.encoder.construct), model.cfg.features
    shape = hears.frames_in(WINDOW), hears.n_mels
    mel_TF = np.random.default_rng(0).standard_normal(shape, np.float32)

    def encode(seconds: float):
        frames = hears.frames_in(seconds)
        inputs = Tensor(mel_TF[None, :frames]), Tensor(np.array([frames], np.int32))
        return lambda: graph(*inputs)[0].asnumpy()

    rounds = 3 if setup.quick else 7
    whole = encode(WINDOW)
    with setup.torch() as torch:
        np.save(setup.folder / "mel.npy", mel_TF)
        torch.ask("load_encoder", folder=models.for_torch(model, "hf_whisper", setup.folder))
        there = torch.ask("encode", mel=str(setup.folder / "mel.npy"), out=str(setup.folder / "out.npy"))
        ours_UD, theirs_UD = whole()[0], np.load(setup.folder / "out.npy")
        off = np.abs(ours_UD - theirs_UD).max() / np.abs(theirs_UD).max()
        out.figure("encoder_difference", off, "largest difference / largest value", f"{off:.1e}")
        ours, theirs = race(clocked(whole), torch.run("encode"), rounds=rounds, warm=setup.warm)
        out.figure("encoder_30s", ours.median, "ours, 30 s", str(ours))
        out.figure("encoder_30s_torch", theirs.median, "PyTorch (transformers, sdpa), 30 s", str(theirs))
        busy = f"{cores_used(whole):.2f}, {there['cores']:.2f}"
        out.rows.append(("cores busy, ours and PyTorch's", busy))
        out.ratio("encoder_30s_vs_torch", theirs.median / ours.median)
    lengths = LENGTHS[:1] if setup.quick else LENGTHS[:-1]
    points = [(s, measure(encode(s), rounds, setup.warm).median) for s in lengths] + [(WINDOW, ours.median)]
    out.curve("encoder", Curve("seconds of audio", "encoder seconds", points))
    out.ratio("encoder_unpadded_gain", ours.median / points[0][1])
    return out
