"""Runs a small model by plain and by fused operators on CPU, in types of numbers, and notes how they compare.

    python -m tests.ascend.worker MEASURED.json DTYPE[:answers]...     # all cases of a type, or answers alone

The reference of every case is the plain path in float32, with weights and features rounded to the type of the
case. Legend: B sequences, N recordings, L positions, V vocabulary.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import ascend_ops_cpu
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindspore_osum.inference.beam_search import Graphs, make_graphs
from mindspore_osum.inference.generate import Generator
from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.joined import prepare
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.losses import token_losses
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.init import initial_value
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.network import OsumModel
from tests.inference.common import random_prompt
from tests.models.common import make_item, pack

# heads of 16, which FlashAttentionScore takes as they are, and of 24 and 8, which have to be padded
CFG = ModelConfig(
    encoder=EncoderConfig(n_mels=80, d_model=48, n_layers=1, n_heads=3, d_ff=52),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=44),
    decoder=DecoderConfig(
        vocab_size=61, d_model=40, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=56, max_positions=512
    ),
    lora=LoraConfig(rank=3, alpha=5.0, dropout=0.0),
    speech_token_num=7,
)
ITEMS = [make_item(CFG, *sizes) for sizes in [(53, 4, 5, 20), (37, 3, 6, 21), (12, 5, 4, 22)]]
FRAMES, LENGTH = 56, 40
BATCHES = {"padded": [[0], [1], [2]], "packed": [[0, 1], [2], []]}


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values that the type can hold."""
    return Tensor(array).astype(getattr(ms, dtype)).astype(ms.float32).asnumpy()


def set_weights(model: OsumModel, rounding: str) -> None:
    """The same numbers in every model for the same `rounding`."""
    rng = np.random.default_rng(3)
    for name, param in model.parameters_and_names():
        value = initial_value(name, param.shape, 1, 7)
        if name.endswith("bias") or "lora_B" in name:
            value = 0.2 * rng.standard_normal(param.shape, np.float32)
        elif "embed" in name.split(".")[-2]:
            value = 30 * value
        param.set_data(Tensor(rounded(value, rounding), param.dtype))


class Training(nn.Cell):
    """The loss, and logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_NTF, mel_len_N, ids_BL, rows_BL, labels_BL, positions_BL, segments_BL):
        hidden_BLD = self.model.hidden_states(mel_NTF, mel_len_N, ids_BL, rows_BL, positions_BL, segments_BL)
        logits_BLV = self.model.decoder.logits(hidden_BLD)
        loss_BM, count_BM = token_losses(logits_BLV[:, :-1], labels_BL[:, 1:])
        return loss_BM.sum() / count_BM.sum(), logits_BLV


def train(step, rounding: str) -> dict:
    """Loss, logits at real places and all gradients, of the padded and of the packed batch."""
    found = {}
    for name, rows in BATCHES.items():
        batch = pack(ITEMS, rows, FRAMES, LENGTH)
        batch[0] = Tensor(rounded(batch[0].asnumpy(), rounding))
        ascend_ops_cpu.calls(reset=True)
        (loss, logits_BLV), grads = step(*batch)
        grads = [grad.astype(ms.float32).asnumpy().ravel() for grad in grads]
        found[name] = {
            "loss": loss.asnumpy(),
            "logits": logits_BLV.asnumpy()[batch[6].asnumpy() > 0],
            "gradients": grads,
            "calls": ascend_ops_cpu.calls(),
        }
    return found


class Speech(nn.Cell):
    """Speech tokens of rows that hold several recordings."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_NTF, spans_N2):
        rows, frames = mel_NTF.shape[:2]
        return self.model.encode_speech(mel_NTF, device_ops.frame_places(spans_N2, rows, frames))


def encode(speech: Speech, rounding: str) -> dict:
    """Recordings of 16 and 21 frames in one row, with gaps of 8 and more frames between them."""
    mel_1TF = np.zeros((1, FRAMES, CFG.encoder.n_mels), np.float32)
    spans = np.array([[0, 16], [24, 21]], np.int32)
    for first, count in spans:
        mel_1TF[0, first : first + count] = ITEMS[0].mel_TF[:count]
    ascend_ops_cpu.calls(reset=True)
    z_1ZD, place_1Z = speech(Tensor(rounded(mel_1TF, rounding)), Tensor(spans))
    tokens = z_1ZD.astype(ms.float32).asnumpy()[place_1Z.asnumpy() >= 0]
    return {"speech tokens": tokens, "calls": ascend_ops_cpu.calls()}


def generate(generator: Generator, graphs: tuple, rounding: str) -> dict:
    """Scores of the first and of four forced tokens after prompts of three lengths, one without speech."""
    rng = np.random.default_rng(9)
    sizes = [(9, 40), (14, 24), (5, 0)]
    prompts = [random_prompt(CFG, rng, *size) for size in sizes]
    prompts = [replace(p, mel_TF=None if p.mel_TF is None else rounded(p.mel_TF, rounding)) for p in prompts]
    prefill, step, batch = graphs
    ascend_ops_cpu.calls(reset=True)
    _, position_B, scores_BV = prefill(*generator._inputs(prompts, batch, 64))
    scores = [scores_BV.asnumpy()[: len(prompts)]]
    prefill_calls = ascend_ops_cpu.calls(reset=True)
    for token_B in rng.integers(0, CFG.decoder.vocab_size, (4, batch)):
        token_B = Tensor(token_B.astype(np.int32))
        _, position_B, scores_BV = step(token_B, position_B, Tensor(np.ones(batch, np.float32)))
        scores.append(scores_BV.asnumpy()[: len(prompts)])
    return {"scores": np.stack(scores), "prefill calls": prefill_calls, "calls": ascend_ops_cpu.calls()}


def search(generator: Generator, graphs: Graphs, rounding: str) -> dict:
    """Scores of the rows of a beam search, two for each prompt, for forced tokens and after moves of rows."""
    rng = np.random.default_rng(10)
    prompts = [random_prompt(CFG, rng, *size) for size in ((9, 40), (14, 24), (5, 0))]
    prompts = [replace(p, mel_TF=None if p.mel_TF is None else rounded(p.mel_TF, rounding)) for p in prompts]
    _, position_B, _ = graphs.prefill(*generator._inputs(prompts, graphs.batch, 64))
    (position_R,), rows, scores = graphs.spread(position_B), 2 * graphs.batch, []
    ascend_ops_cpu.calls(reset=True)
    for turn in range(4):
        token_R = rng.integers(0, CFG.decoder.vocab_size, rows).astype(np.int32)
        _, position_R, scores_RV = graphs.step(Tensor(token_R), position_R, Tensor(np.ones(rows, np.float32)))
        scores.append(scores_RV.asnumpy()[: 2 * len(prompts)])
        moved_M = np.arange(graphs.batch, dtype=np.int32) * 2  # one way, the other way, or not at all
        other_M = moved_M + np.array([1, 0, turn % 2, 1], np.int32)
        pair = (other_M, moved_M) if turn % 2 else (moved_M, other_M)
        parent_R = np.arange(rows, dtype=np.int32)
        parent_R[pair[1]] = pair[0]
        (position_R,) = graphs.move(*map(Tensor, (*pair, parent_R)), position_R)
    return {"scores": np.stack(scores), "calls": ascend_ops_cpu.calls()}


def off(got, want) -> float:
    """Largest difference by largest value; of lists of arrays, length of the difference by length."""
    if isinstance(want, list):
        got, want = np.concatenate(got).astype(np.float64), np.concatenate(want).astype(np.float64)
        return float(np.linalg.norm(got - want) / np.linalg.norm(want))
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if not np.isfinite(got).all():
        return 1e9
    return float(np.abs(got - want).max() / np.abs(want).max())


def compare(found: dict, reference: dict) -> dict:
    """Errors, and the numbers of calls."""
    return {key: value if "calls" in key else off(value, reference[key]) for key, value in found.items()}


class Runner:
    """A model on the operators of `path`, compiled once."""

    def __init__(self, path: str, dtype: str):
        device_ops.use(path)
        self.model = OsumModel(replace(CFG, dtype=dtype))
        net = Training(self.model)
        self.step = ms.value_and_grad(net, None, weights=list(net.get_parameters()), has_aux=True)
        self.speech = Speech(self.model)
        self.generator = Generator(self.model)
        self.graphs = self.generator._graphs(4, 128)
        self.beams = make_graphs(self.generator.parts, 4, 128, beams=2)

    def run(self, rounding: str, answers_only: bool) -> dict:
        """What comes out, {case: {quantity: values}}."""
        set_weights(self.model, rounding)
        if answers_only:
            prepare(self.model)  # as it answers: adapters merged, products joined
        cases = {} if answers_only else train(self.step, rounding)
        if not answers_only:
            cases["recordings"] = encode(self.speech, rounding)
        else:
            cases["beams"] = search(self.generator, self.beams, rounding)
        return cases | {"answers": generate(self.generator, self.graphs, rounding)}


def main(target: Path, whats: list[str]) -> None:
    """Measure each type: {"float16 fused packed": {quantity: error or calls}} and the like."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ascend_ops_cpu.enable()
    out = {}
    for dtype, _, answers in (what.partition(":") for what in whats):
        # a new one for each type: once another model with parameters of the same names is compiled, MindSpore
        # 2.7.2 gives values set later to some of a graph's parameters only
        reference = Runner("plain", "float32").run(dtype, bool(answers))
        for path in ("fused",) if answers or dtype == "float32" else ("plain", "fused"):
            for case, found in Runner(path, dtype).run(dtype, bool(answers)).items():
                out[f"{dtype} {path} {case}"] = compare(found, reference[case])
        target.write_text(json.dumps(out, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
