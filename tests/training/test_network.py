"""The losses of the training network: spans and their weights, and text without encoder and adapter."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Tensor, nn  # noqa: E402

from mindspore_osum.config import merge  # noqa: E402
from mindspore_osum.data.batches.batching import Shape  # noqa: E402
from mindspore_osum.data.batches.corpus import Corpus  # noqa: E402
from mindspore_osum.data.batches.loader import Loader  # noqa: E402
from mindspore_osum.systems.registry import preset  # noqa: E402
from mindspore_osum.tasks import LABEL_SETS  # noqa: E402
from mindspore_osum.text.sequence import CONTENT, IGNORE, INTENT  # noqa: E402
from mindspore_osum.training import checkpoint  # noqa: E402
from mindspore_osum.training.network import LabelHeads, OsumForTraining, OsumTrainingConfig  # noqa: E402
from tests.training.tones import SMALL_MODEL, add_texts, extractor, make_world, random_words  # noqa: E402


class Losses(nn.Cell):
    """`losses` of a network as a graph."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *batch):
        return self.network.losses(*batch)


def network(**over) -> OsumForTraining:
    model = merge(preset("tiny").to_dict(), SMALL_MODEL)
    return OsumForTraining(OsumTrainingConfig(model=model, learn=["adapter", "decoder"], seed=1, **over))


def run(net, batch: dict) -> list[np.ndarray]:
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    return [x.asnumpy() for x in Losses(net).set_train(False)(*map(Tensor, batch.values()))]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"), random_words(3))
    add_texts(world)
    return world


def batch_of(world, *names, size=4, frames=64) -> dict:
    sources = [(name, world / f"{name}.jsonl", 1.0) for name in names]
    return Loader(Corpus(sources, extractor(world), [Shape(size, frames, 80)]), 1).micro_batch(0, 0)


def test_spans_are_summed_and_weighted(world):
    batch = batch_of(world, "words", "qa")
    plain, parts, spans = run(network(), batch)
    total = batch["targets_B"].mean()
    intent, content = ((batch["spans_BL"] == span) for span in (INTENT, CONTENT))
    assert spans[1] == intent.sum() > 0 and spans[3] == content.sum() > 0
    assert spans[1] + spans[3] == total == (batch["labels_BL"] != IGNORE).sum()
    assert plain == parts[0] == pytest.approx((spans[0] + spans[2]) / total, rel=1e-6)
    alone = {**batch, "labels_BL": np.where(intent, batch["labels_BL"], IGNORE)}
    assert run(network(), alone)[1][0] * total == pytest.approx(spans[0], rel=1e-5)
    weighted, *same = run(network(loss={"intent": 2.0, "content": 0.5}), batch)
    assert weighted == pytest.approx((2.0 * spans[0] + 0.5 * spans[2]) / total, rel=1e-5)
    assert np.array_equal(same[0], parts) and np.array_equal(same[1], spans)  # what is shown has no weights


def test_text_alone_needs_no_encoder_and_no_adapter(world):
    batch = batch_of(world, "intent", frames=2)
    text = network(speech=False)
    del text.model._cells["encoder"], text.model._cells["adapter"]  # graphs cannot run them then
    got, want = run(text, batch), run(network(), batch)
    for a, b in zip(got, want, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    assert got[0] > 1 and got[2][3] == 0


def test_label_heads_equal_float64_formulas():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    rng, sizes = np.random.default_rng(0), [len(labels.values) for labels in LABEL_SETS.values()]
    z_BZD, z_len_B = rng.standard_normal((5, 7, 12)), np.array([7, 3, 1, 5, 7], np.int32)
    classes_BC = np.stack([rng.integers(0, size, 5) for size in sizes], 1).astype(np.int32)
    classes_BC[rng.random(classes_BC.shape) < 0.4] = IGNORE
    heads = LabelHeads(12, seed=1)
    for param in heads.get_parameters():
        param.set_data(Tensor(rng.standard_normal(param.shape), ms.float32))
    weight, bias = (p.asnumpy().astype(np.float64) for p in (heads.weight, heads.bias))
    want, firsts = 0.0, np.cumsum([0, *sizes])
    for z_ZD, length, classes in zip(z_BZD, z_len_B, classes_BC, strict=True):
        scores = z_ZD[:length].mean(0) @ weight.T + bias
        for first, last, label in zip(firsts, firsts[1:], classes, strict=False):
            if label != IGNORE:
                part = scores[first:last]
                want += np.log(np.exp(part).sum()) - part[label]
    got = heads(Tensor(z_BZD, ms.float32), Tensor(z_len_B), Tensor(classes_BC)).asnumpy()
    assert (classes_BC == IGNORE).any() and got == pytest.approx(want / 5, rel=1e-5)


def test_heads_come_from_the_runs_before(tmp_path, capsys):
    """Also where a stage of text alone, which has none, lies between."""
    net = network(ctc={"weight": 0.3}, ctc_vocab=9, classify={"weight": 0.1})
    rng = np.random.default_rng(0)
    heads = {
        name: rng.standard_normal(param.shape).astype(np.float32)
        for name, param in net.parameters_and_names()
        if not name.startswith("model.")
    }
    assert set(heads) == {f"{head}.{part}" for head in ("ctc", "classify") for part in ("weight", "bias")}
    spoken = heads | {"ctc.weight": np.ones((3, 4), np.float32)}  # of another tokenizer: not taken
    other = {"decoder.x": np.ones(2, np.float32)}
    checkpoint.save(tmp_path / "spoken" / "checkpoints", 3, spoken, {"start": "tiny", "fingerprint": {}}, 1)
    about = {"start": str(tmp_path / "spoken" / "model"), "fingerprint": {}}
    checkpoint.save(tmp_path / "text" / "checkpoints", 5, other, about, 1)
    before = net.ctc.weight.asnumpy()
    checkpoint.load_heads(net, str(tmp_path / "text" / "model"))
    for name, param in net.parameters_and_names():
        if name in heads:
            assert np.array_equal(param.asnumpy(), before if name == "ctc.weight" else heads[name]), name
    said = capsys.readouterr().err
    assert said.startswith("ctc.weight: random at first; no run behind ") and said.count("\n") == 1


def test_heads_that_no_run_left_are_told(tmp_path, capsys):
    net = network(ctc={"weight": 0.3}, ctc_vocab=9)
    other = {"decoder.x": np.ones(2, np.float32)}
    checkpoint.save(tmp_path / "text" / "checkpoints", 5, other, {"fingerprint": {}}, 1)  # of no known start
    for start in (tmp_path / "text" / "model", tmp_path / "converted"):
        checkpoint.load_heads(net, str(start))
        assert capsys.readouterr().err.startswith("ctc.bias, ctc.weight: random at first; no run behind")
    checkpoint.load_heads(network(), str(tmp_path / "converted"))
    assert capsys.readouterr().err == ""
