"""What the model tests share on the MindSpore side: random parameters, errors, hybrid batches.

Legend: N audio slots, B sequences, L positions, T mel frames, F mel bins, Z speech tokens a slot.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig

TOLERANCE = 1e-4  # demanded of every comparison with PyTorch, relative to the largest value
SAME = 1e-5  # demanded between two ways of computing the same thing in MindSpore

# every width different, so that a swapped pair of axes cannot pass
SMALL = ModelConfig(
    encoder=EncoderConfig(n_mels=80, d_model=36, n_layers=2, n_heads=3, d_ff=52),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=44),
    decoder=DecoderConfig(
        vocab_size=61, d_model=40, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=56
    ),
    lora=LoraConfig(rank=3, alpha=5.0, dropout=0.0),
    speech_token_num=7,
)


def error(got, want) -> float:
    """max |got - want| / max |want|."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shapes {got.shape} and {want.shape}"
    assert np.isfinite(got).all() and np.isfinite(want).all()
    return float(np.abs(got - want).max() / np.abs(want).max())


def fill(cell: nn.Cell, seed: int) -> dict[str, np.ndarray]:
    """Give every parameter a random value that is neither 0 nor 1, and return them all by name.

    Matrices keep the scale of their input; norm weights lie around 1; biases and LoRA B are as large as the
    rest, so that none can be left out unseen.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, param in cell.parameters_and_names():
        draw = rng.standard_normal(param.shape, np.float32)
        if "embed_tokens" in name or "speech_token_embed" in name:
            value = draw
        elif len(param.shape) > 1:
            value = draw * np.float32(np.prod(param.shape[1:]) ** -0.5)
        elif name.endswith("weight"):
            value = 1 + np.float32(0.3) * draw
        else:
            value = np.float32(0.3) * draw
        param.set_data(Tensor(value))
        values[name] = value
    return values


def load(cell: nn.Cell, values: dict[str, np.ndarray]) -> None:
    """Set exactly the parameters of `cell` from arrays of the same names and shapes."""
    params = dict(cell.parameters_and_names())
    assert set(params) == set(values), sorted(set(params) ^ set(values))
    for name, value in values.items():
        assert params[name].shape == value.shape, f"{name}: {params[name].shape} and {value.shape}"
        params[name].set_data(Tensor(np.ascontiguousarray(value)))


def gradients(cell: nn.Cell, *inputs) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """All outputs of the cell, and the gradient of the first (a scalar) for every parameter, by name.

    One compiled graph; the cell must have a second output.
    """
    named = dict(cell.parameters_and_names())
    outputs, grads = ms.value_and_grad(cell, None, weights=list(named.values()), has_aux=True)(*inputs)
    return [out.asnumpy() for out in outputs], {name: grad.asnumpy() for name, grad in zip(named, grads)}


def compare_gradients(got: dict[str, np.ndarray], weights) -> None:
    """Gradients by name against the `.grad` of torch tensors of the same names."""
    assert set(got) == set(weights), sorted(set(got) ^ set(weights))
    for name, grad in got.items():
        if name.endswith(("linear_k.bias", "layer_norm_k.bias")):
            # it adds the same to every score of a query: the softmax, and so the loss, does not see it
            assert np.abs(grad).max() <= SAME * np.abs(got[name.replace("_k.", "_q.")]).max(), name
        else:
            assert error(grad, weights[name].grad.numpy()) <= TOLERANCE, name


class Weighted(nn.Cell):
    """f(*inputs), and before it sum(f(*inputs) * weight), whose gradient sees every element differently."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def construct(self, weight, *inputs):
        out = self.f(*inputs)
        return (out * weight).sum(), out


@dataclass
class Item:
    """One utterance and its hybrid sequence; ids -2 speech begin, -1 a speech token, -3 speech end."""

    mel_TF: np.ndarray
    ids: list[int]
    labels: list[int]  # of the same length, -100 where there is no target

    @property
    def frames(self) -> int:
        return len(self.mel_TF)


def make_item(cfg: ModelConfig, frames: int, left: int, right: int, seed: int) -> Item:
    """Random mel and text around the speech; the last `right` - 2 tokens are labelled."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, cfg.decoder.vocab_size, left + right).tolist()
    tokens = -(-frames // 8)
    ids = text[:left] + [-2] + [-1] * tokens + [-3] + text[left:]
    labels = [-100] * (len(ids) - right + 2) + text[left + 2 :]
    return Item(rng.standard_normal((frames, cfg.encoder.n_mels), np.float32), ids, labels)


def pack(items: list[Item], rows: list[list[int]], frames: int, length: int) -> list[Tensor]:
    """The model's batch: one audio slot an item, `rows[b]` the items (segments) that share sequence b.

    Frames beyond an item's end are filled with garbage, which a model must not look at.
    """
    slots, n_mels = -(-frames // 8), items[0].mel_TF.shape[1]
    mel_NTF = 9 * np.random.default_rng(frames).standard_normal((len(items), frames, n_mels), np.float32)
    for n, item in enumerate(items):
        mel_NTF[n, : item.frames] = item.mel_TF
    shape = (len(rows), length)
    ids_BL, rows_BL, labels_BL = np.full(shape, 5), np.full(shape, -1), np.full(shape, -100)
    positions_BL, segments_BL = np.zeros(shape), np.zeros(shape)
    for b, members in enumerate(rows):
        start = 0
        for segment, n in enumerate(members, 1):
            ids = np.array(items[n].ids)
            here = slice(start, start + len(ids))
            is_speech = ids == -1
            speech_rows = np.where(is_speech, 2 + n * slots + np.cumsum(is_speech) - 1, -1)
            rows_BL[b, here] = np.where(ids == -2, 0, np.where(ids == -3, 1, speech_rows))
            ids_BL[b, here] = np.maximum(ids, 0)
            # the first label of a segment would be predicted from the segment before it
            labels_BL[b, here] = [-100] + items[n].labels[1:]
            positions_BL[b, here], segments_BL[b, here] = np.arange(len(ids)), segment
            start += len(ids)
    lengths_N = np.array([item.frames for item in items], np.int32)
    ints = [Tensor(a.astype(np.int32)) for a in (ids_BL, rows_BL, labels_BL, positions_BL, segments_BL)]
    return [Tensor(mel_NTF), Tensor(lengths_N), *ints]


class Parts(nn.Cell):
    """The loss, and what is computed on the way: speech tokens, their lengths, embeddings, logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_NTF, mel_len_N, ids_BL, rows_BL, labels_BL, positions_BL, segments_BL):
        loss = self.model(mel_NTF, mel_len_N, ids_BL, rows_BL, labels_BL, positions_BL, segments_BL)
        z_NZD, len_N = self.model.encode_speech(mel_NTF, mel_len_N)
        x_BLD = self.model.embed(ids_BL, rows_BL, z_NZD)
        hidden_BLD = self.model.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
        return loss, z_NZD, len_N, x_BLD, self.model.decoder.logits(hidden_BLD)
