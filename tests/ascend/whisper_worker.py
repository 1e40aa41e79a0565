"""Runs a small Whisper by plain and by fused operators on CPU, and notes how they compare.

    python -m tests.ascend.whisper_worker MEASURED.json DTYPE...

The reference is the plain path in float32, with weights and features rounded to the type of the case.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import ascend_ops_cpu
import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindspore_osum.inference.generate import Generator
from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.joined import prepare
from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.network import WhisperModel
from mindspore_osum.systems.whisper_asr.vocabulary import DETECT
from mindspore_osum.text.sequence import Text, lay_out
from tests.ascend.worker import compare, rounded

# heads of 16, which FlashAttentionScore takes as they are, and of 8, which have to be padded
CFG = WhisperConfig(
    encoder=EncoderConfig(d_model=48, n_layers=1, n_heads=3, d_ff=52),
    decoder=TextDecoderConfig(
        vocab_size=1531, d_model=48, n_layers=2, n_heads=6, d_ff=44, max_positions=64, eos_id=20
    ),
    languages=2,
    positions=35,
    suppressed=(),
    suppressed_first=(),
)
FRAMES = 70, 41  # of two recordings: as long as the model takes, and shorter; the batch has a third row
STEPS = 4


def set_weights(model: WhisperModel, rounding: str) -> None:
    """The same numbers in every model for the same `rounding`."""
    rng = np.random.default_rng(3)
    for name, param in model.parameters_and_names():
        value = rng.standard_normal(param.shape, np.float32)
        if len(param.shape) == 1:
            value = 0.2 * value + (1 if "norm" in name and name.endswith("weight") else 0)
        elif not name.split(".")[-2].startswith("embed"):
            value *= np.prod(param.shape[1:]) ** -0.5
        param.set_data(Tensor(rounded(value, rounding), param.dtype))


def answers(path: str, dtype: str, rounding: str) -> dict:
    """Frames; scores of the first and of four forced tokens; what is said of the recordings."""
    device_ops.use(path)
    model, rng, words = WhisperModel(replace(CFG, dtype=dtype)), np.random.default_rng(9), CFG.vocabulary
    set_weights(model, rounding)
    generator = Generator(prepare(model))
    mels = [rng.standard_normal((n, CFG.encoder.n_mels), np.float32) for n in FRAMES]
    ids = [words.sot, words.first_language + 1, words.transcribe, words.no_timestamps]
    before = [words.start_of_previous, 3, 4, words.sot, DETECT, words.transcribe, words.no_timestamps]
    prompts = [
        Prompt(lay_out(None, [Text(row)]), rounded(mel_TF, rounding))
        for row, mel_TF in zip((ids, before), mels, strict=True)
    ]
    frames = Tensor([FRAMES[0]], ms.int32)
    encoded = generator.compute(generator.parts.encode, [prompts[0].mel_TF[None], frames.asnumpy()])
    encoded = encoded[0].astype(np.float32)
    prefill, step, batch = generator._graphs(4, 64)
    ascend_ops_cpu.calls(reset=True)
    _, position_B, scores_BV, *held = prefill(*generator._inputs(prompts, batch, 32))
    scores, (*held, facts) = [scores_BV.asnumpy()], held
    prefill_calls = ascend_ops_cpu.calls(reset=True)
    for token_B in rng.integers(0, words.eot, (STEPS, batch)):
        penalty_B = Tensor(np.ones(batch, np.float32))
        _, position_B, scores_BV, *held = step(Tensor(token_B.astype(np.int32)), position_B, penalty_B, *held)
        scores.append(scores_BV.asnumpy())
    pieces = np.stack(scores)[:, : len(prompts), : words.eot]
    return {
        "frames": encoded,
        "scores": pieces,
        "facts": facts.asnumpy()[:, : len(prompts)],
        "prefill calls": prefill_calls,
        "calls": ascend_ops_cpu.calls(),
    }


def main(target: Path, dtypes: list[str]) -> None:
    """Measure each type: {dtype: {quantity: error or calls}}."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ascend_ops_cpu.enable()
    found = {}
    for dtype in dtypes:
        reference = answers("plain", "float32", dtype)
        found[dtype] = compare(answers("fused", dtype, dtype), reference)
    target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
