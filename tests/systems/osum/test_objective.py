"""The losses of OSUM's objective: spans and their weights, and text without encoder and adapter."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Tensor, nn  # noqa: E402

from mindspore_osum.config import merge  # noqa: E402
from mindspore_osum.data.batches.corpus import Corpus  # noqa: E402
from mindspore_osum.data.batches.loader import Loader  # noqa: E402
from mindspore_osum.systems.osum.template import CONTENT, INTENT  # noqa: E402
from mindspore_osum.systems.registry import preset  # noqa: E402
from mindspore_osum.text.sequence import IGNORE  # noqa: E402
from mindspore_osum.training.network import NetworkConfig, TrainingNetwork  # noqa: E402
from tests.training.tones import SMALL_MODEL, add_texts, extractor, make_world, random_words, shape  # noqa: E402


class Losses(nn.Cell):
    """`losses` of a network as a graph."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *batch):
        return self.network.losses(*batch)


def network(loss=None, **over) -> TrainingNetwork:
    model = merge(preset("tiny").to_dict(), SMALL_MODEL)
    sections = {"loss": loss or {}}
    learn = ["adapter", "decoder"]
    return TrainingNetwork(NetworkConfig(model, learn=learn, sections=sections, seed=1, **over))


def run(net, batch: dict) -> tuple[float, dict, dict]:
    """The loss; its parts and the counts of those that are sums, by name."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    loss, values_K, counts_J = Losses(net).set_train(False)(*map(Tensor, batch.values()))
    values = dict(zip(net.shown, values_K.asnumpy(), strict=True))
    return loss.asnumpy(), values, dict(zip(net.counted, counts_J.asnumpy(), strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"), random_words(3))
    add_texts(world)
    return world


def batch_of(world, *names, size=4, frames=64) -> dict:
    sources = [(name, world / f"{name}.jsonl", 1.0) for name in names]
    return Loader(Corpus(sources, extractor(world), [shape(size, frames, 80)]), 1).micro_batch(0, 0)


def test_spans_are_summed_and_weighted(world):
    batch = batch_of(world, "words", "qa")
    plain, parts, counts = run(network(), batch)
    total = batch["targets_B"].mean()
    sums = parts["intent_loss"], parts["content_loss"]
    intent, content = ((batch["spans_BL"] == span) for span in (INTENT, CONTENT))
    assert counts["intent_loss"] == intent.sum() > 0 and counts["content_loss"] == content.sum() > 0
    assert sum(counts.values()) == total == (batch["labels_BL"] != IGNORE).sum()
    assert plain == parts["ce"] == pytest.approx(sum(sums) / total, rel=1e-6)
    assert parts["ctc"] == parts["aligned"] == parts["labels"] == 0
    alone = {**batch, "labels_BL": np.where(intent, batch["labels_BL"], IGNORE)}
    assert run(network(), alone)[1]["ce"] * total == pytest.approx(sums[0], rel=1e-5)
    weighted, *same = run(network({"intent": 2.0, "content": 0.5}), batch)
    assert weighted == pytest.approx((2.0 * sums[0] + 0.5 * sums[1]) / total, rel=1e-5)
    assert same == [parts, counts]  # what is shown has no weights


def test_text_alone_needs_no_encoder_and_no_adapter(world):
    batch = batch_of(world, "intent", frames=2)
    text = network(speech=False)
    del text.model._cells["encoder"], text.model._cells["adapter"]  # graphs cannot run them then
    (got, parts, counts), (want, parts_want, counts_want) = run(text, batch), run(network(), batch)
    assert got == pytest.approx(want, rel=1e-6) and got > 1
    assert parts == pytest.approx(parts_want, rel=1e-6) and counts == counts_want
    assert counts["content_loss"] == 0
