"""Packed batches against padded ones on the real training network, and whole runs with them."""

import json
from dataclasses import replace

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Tensor, nn, ops  # noqa: E402

from mindspore_osum.config import merge  # noqa: E402
from mindspore_osum.data.batches.corpus import Corpus  # noqa: E402
from mindspore_osum.data.batches.loader import Loader  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.models.adapters.config import AdapterConfig  # noqa: E402
from mindspore_osum.models.adapters.kinds import kinds  # noqa: E402
from mindspore_osum.models.ops import frame_places, segment_causal_mask  # noqa: E402
from mindspore_osum.systems.registry import preset  # noqa: E402
from mindspore_osum.training.config import Batch, job_from, shapes_of  # noqa: E402
from mindspore_osum.training.network import NetworkConfig, TrainingNetwork  # noqa: E402
from mindspore_osum.training.run import run_job  # noqa: E402
from tests.training.tones import SMALL_MODEL, extractor, make_world, random_words, shape, small_job  # noqa: E402

RELEASED = AdapterConfig().kind


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Nine words, some with labels of the speaker, and two texts alone."""
    world = make_world(tmp_path_factory.mktemp("world"), random_words(9))
    text = {"task": "<INTENT_CLASSIFICATION>", "txt": "<asr>", "extra": {"intent": "ab"}}
    lines = [json.dumps({"key": f"text{i}", **text}) for i in (0, 1)]
    path = world / "words.jsonl"
    words = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for i, word in enumerate(words[::2]):
        timed = [[word["txt"], 0.0, 0.2 + 0.05 * i]]
        word["extra"] = {"gender": ("MALE", "FEMALE")[i % 2], "age": "OLD", "words": timed}
    path.write_text("\n".join([*map(json.dumps, words), *lines]) + "\n", "utf-8")
    return world


def loader(world, size: int, pack: int, ctc: str = "") -> Loader:
    sources = [("words", world / "words.jsonl", 1.0)]
    return Loader(Corpus(sources, extractor(world, ctc=ctc), [shape(size, 64, 80)]), 3, pack=pack)


def network(ctc: str, adapter: str = RELEASED) -> TrainingNetwork:
    model = merge(merge(preset("tiny").to_dict(), SMALL_MODEL), {"adapter": {"kind": adapter}})
    learn = ["encoder", "adapter", "decoder"]
    sections = {
        "loss": {"intent": 0.5, "content": 2.0},
        "ctc": {"weight": 0.3, "at": ctc, "aligned": 0.4 if ctc == "adapter" else 0.0} if ctc else {},
        "classify": {"weight": 0.2 if ctc else 0.0},
    }
    return TrainingNetwork(NetworkConfig(model, learn=learn, sections=sections, vocab=320, seed=1))


class Gradients(nn.Cell):
    def __init__(self, network):
        super().__init__()
        self.network = network
        weights = ms.ParameterTuple([p for p in network.get_parameters() if p.requires_grad])
        self.run = ops.value_and_grad(network.losses, None, weights, has_aux=True)

    def construct(self, *batch):
        return self.run(*batch)


@pytest.mark.parametrize(
    ("ctc", "adapter"),
    [
        *(("adapter", kind) for kind in kinds() if kind != RELEASED),
        pytest.param("encoder", RELEASED, marks=pytest.mark.slow),
        pytest.param("adapter", RELEASED, marks=pytest.mark.slow),
    ],
)
def test_packed_losses_and_gradients_equal_padded_ones(world, ctc, adapter):
    padded, packed = loader(world, 11, 0, ctc), loader(world, 5, 120, ctc)
    assert padded.steps_per_epoch == packed.steps_per_epoch == 1 and padded.counts(0) == packed.counts(0)
    rows = packed.rows(0)[2]
    assert max(len(row.items) for row in rows) >= 3 and packed.room.audio_rows * packed.room.speech >= 8
    network_ = network(ctc, adapter)
    both = Gradients(network_)
    results = [both(*map(Tensor, which.micro_batch(0, 0).values())) for which in (padded, packed)]
    ((losses, grads), (losses_p, grads_p)) = results
    for one, other in zip(losses, losses_p, strict=True):  # the loss, its parts, their counts
        assert other.asnumpy() == pytest.approx(one.asnumpy(), rel=1e-5)
    parts = dict(zip(network_.shown, losses[1].asnumpy(), strict=True))
    want = {"ctc": bool(ctc), "aligned": ctc == "adapter", "labels": bool(ctc)}
    assert {name: parts[name] > 0 for name in want} == want
    names = [p.name for p in network_.get_parameters() if p.requires_grad]
    largest = max(np.abs(g.asnumpy()).max() for g in grads)
    for name, grad, grad_p in zip(names, grads, grads_p, strict=True):
        error = np.abs(grad.asnumpy() - grad_p.asnumpy()).max()
        assert error <= 1e-5 * max(np.abs(grad.asnumpy()).max(), 1e-3 * largest), name


class Logits(nn.Cell):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_BTF, spans_N2, token_ids_BL, speech_row_BL, positions_BL, segments_BL):
        b, t, _ = mel_BTF.shape
        z_BZD, _ = self.model.encode_speech(mel_BTF, frame_places(spans_N2, b, t))
        x_BLD = self.model.embed(token_ids_BL, speech_row_BL, z_BZD)
        hidden_BLD = self.model.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
        return self.model.decoder.logits(hidden_BLD)


def test_a_segment_does_not_see_its_neighbours(world):
    packed = loader(world, 2, 400)
    batch = packed.micro_batch(0, 0)
    cell = Logits(network("").model)
    names = ("mel_BTF", "mel_len_B", "token_ids_BL", "speech_row_BL", "positions_BL", "segments_BL")

    def logits() -> np.ndarray:
        return cell(*(Tensor(batch[name]) for name in names)).asnumpy()

    before, rng = logits(), np.random.default_rng(0)
    segments = batch["segments_BL"][0]
    changed = int(np.median(segments[segments > 0]))  # in the middle of the first pack
    place = (segments == changed) & (batch["speech_row_BL"][0] < 0)
    batch["token_ids_BL"][0, place] = rng.integers(5, 300, place.sum())
    first, frames = batch["mel_len_B"][changed - 1]
    assert frames > 0
    flat_XF = batch["mel_BTF"].reshape(-1, 80)
    flat_XF[first : first + frames] = rng.standard_normal((frames, 80))
    after = logits()
    others = (batch["segments_BL"] > 0) & ((np.arange(2)[:, None] != 0) | (segments != changed))
    assert others[0].sum() > 100
    assert np.array_equal(before[others], after[others])
    assert (np.abs(before - after)[0, place].max(-1) > 1e-4).all()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"pack": 200, "seconds": [0.3, 0.64]}, "batch.pack: packs have one shape"),
        ({"pack": 200, "max_tokens": 400}, "batch.pack: packs have one shape"),
        ({"pack": -1}, "must not be negative"),
    ],
)
def test_what_packs_cannot_be_is_refused(world, tmp_path, batch, message):
    batch = {"seconds": [0.64], "text_tokens": 104, **batch}
    with pytest.raises(UserError, match=message):
        job_from(small_job(world, tmp_path, batch=batch), "job")


def test_a_pack_holds_the_longest_utterance():
    batch = Batch(seconds=[0.64], text_tokens=104, pack=100)
    with pytest.raises(UserError, match="batch.pack: 100 positions are less than the 114 that batch.seconds"):
        shapes_of(batch, preset("tiny"))
    assert [s.length for s in shapes_of(replace(batch, pack=114), preset("tiny"))] == [114]


def test_packed_runs_learn_and_resume_exactly(world, tmp_path):
    def job(name, steps, **over):
        batch = {"size": 2, "seconds": [0.64], "text_tokens": 80, "pack": 130}
        return small_job(world, tmp_path / name, steps=steps, batch=batch, ctc={"weight": 0.3}, **over)

    def run(name, steps, **over):
        assert run_job(job_from(job(name, steps, **over), "job")) == 0
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    valid = {"valid": [{"name": "again", "path": str(world / "words.jsonl")}]}
    straight = run("straight", 30, data=valid)
    assert run("parts", 7, data=valid) == straight[:7]
    assert run("parts", 30, data=valid) == straight
    assert np.mean(straight[-3:]) < 0.6 * straight[0]
