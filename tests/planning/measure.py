"""Measures the memory of a real training step, or of answering, on CPU, in processes of their own.

MindSpore's own statistics are empty on CPU, and its pool keeps what is freed; so the peak of resident memory
is what a step needed. Compiling takes memory too, by the graph and not by the sizes: a twin of the same graph
with the least batch is measured as well, and the difference of the two is that of the batches.
"""

import json
import os
import subprocess
import sys

# freed blocks of Python and the compiler go back to the system, so that they are not counted
EXACT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OSUM_GRAPH_CACHE": "off",
}
STEPS = 2


def measured(*cases: dict) -> list[dict]:
    """The measures of each case, taken in a process of its own, all at once."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "tests.planning.measure"]
    env = {**os.environ, **EXACT}
    children = [subprocess.Popen([*command, json.dumps(case)], env=env, **pipes) for case in cases]
    found = []
    for child in children:
        out, err = child.communicate()
        assert child.returncode == 0, err[-2000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS now, VmHWM at its peak."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def _peak_of(run) -> int:
    """Most bytes resident during `run()` above those before it."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # forget the peak so far
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def random_batch(cfg, shape):
    """A random batch, as data/batches/batching.py stacks them: every position and frame is in use."""
    import numpy as np

    from mindspore_osum.tasks import LABEL_SETS

    rng, (b, length) = np.random.default_rng(0), (shape.size, shape.length)
    text = shape.text_tokens
    rows = np.full((b, length), -1, np.int32)
    rows[:, 1 : shape.speech + 1] = 2 + np.arange(b * shape.speech, dtype=np.int32).reshape(b, -1)
    labels = np.full((b, length), -100, np.int32)
    labels[:, -text:] = rng.integers(0, cfg.decoder.vocab_size, (b, text))
    places = np.tile(np.arange(length, dtype=np.int32), (b, 1))
    tokens = rng.integers(0, cfg.decoder.vocab_size, (b, length)).astype(np.int32)
    mel = rng.standard_normal((b, shape.frames, cfg.encoder.n_mels), np.float32)
    lengths, count = np.full(b, shape.frames, np.int32), np.full(b, 3, np.int32)
    ctc = rng.integers(0, 9, (b, text)).astype(np.int32)
    shares = (np.arange(b, dtype=np.int32), np.full(b, b, np.float32), np.full(b, b * text, np.float32))
    ones = np.ones_like(rows)
    unknown = (np.full((b, n), -100, np.int32) for n in (shape.speech, len(LABEL_SETS)))
    return mel, lengths, tokens, rows, labels, places, ones, ones, ctc, count, *unknown, *shares


def train(case: dict) -> dict:
    """Peak of a step of training/step.py with AdamW."""
    import mindspore as ms
    from mindspore import Tensor

    from mindspore_osum.config import from_dict
    from mindspore_osum.data.batches.batching import bucket_shapes
    from mindspore_osum.systems.osum.config import ModelConfig
    from mindspore_osum.training.adamw import OsumAdamW
    from mindspore_osum.training.network import NetworkConfig, TrainingNetwork
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import TrainStep

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU", runtime_num_threads=1)
    cfg, shape = from_dict(ModelConfig, case["model"], "case"), case["shape"]
    (shape,) = bucket_shapes(cfg, shape[0], [shape[1]], shape[2])
    net = TrainingNetwork(
        NetworkConfig(
            cfg.to_dict(),
            learn=case["learn"],
            sections={"ctc": case.get("ctc", {})},
            vocab=cfg.decoder.vocab_size,
            speech=shape.frames > 2,
        )
    )
    learning = net.trainable_params()
    groups = [{"params": learning, "weight_decay": 0.01}]
    optimizer = OsumAdamW(groups, learning_rate=WarmupLR(1e-3, 4, 100, "linear"))
    step = TrainStep(
        net, optimizer, use_clip_grad=True, max_grad_norm=1.0, accumulation=case.get("accumulation", 1)
    ).set_train()
    batch = [Tensor(column) for column in random_batch(cfg, shape)]
    peak = _peak_of(lambda: [step(*batch)[0].asnumpy() for _ in range(STEPS)])
    kept = sum(p.nbytes for p in step.get_parameters())
    return {"peak": peak, "kept": kept, "learning": sum(p.nbytes for p in learning)}


def infer(case: dict) -> dict:
    """Peak of inference/generate.py: prompts of one length, and some tokens after them."""
    import mindspore as ms
    import numpy as np

    from mindspore_osum.config import from_dict
    from mindspore_osum.inference.cache import DecodeState
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.systems.osum.config import ModelConfig
    from mindspore_osum.systems.osum.network import OsumModel
    from mindspore_osum.systems.osum.system import SYSTEM
    from mindspore_osum.systems.prompt import Prompt
    from mindspore_osum.text.sequence import Audio, Text, lay_out

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU", runtime_num_threads=1)
    cfg, (rows, frames, length, places) = from_dict(ModelConfig, case["model"], "case"), case["shape"]
    model, rng = OsumModel(cfg), np.random.default_rng(0)
    SYSTEM.init_weights(model, 1)
    speech = cfg.tokens(frames)
    sequence = lay_out(None, [Audio(speech), Text(np.arange(length - speech - 2))])
    mel_TF = rng.standard_normal((frames, cfg.encoder.n_mels), np.float32)
    generator, prompts = Generator(model, eos_ids=[]), [Prompt(sequence, mel_TF)] * rows
    sampling = Sampling(max_new_tokens=places - length)

    def answer():
        steps = generator.stream(prompts, sampling)
        for _ in range(STEPS + 1):
            next(steps)
        steps.close()

    peak = _peak_of(answer)
    state = DecodeState(model.decoder, rows, places)
    kept = sum(p.nbytes for cell in (model, state) for p in cell.get_parameters())
    return {"peak": peak, "kept": kept}


if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    print(json.dumps({"train": train, "infer": infer}[case["mode"]](case)))
