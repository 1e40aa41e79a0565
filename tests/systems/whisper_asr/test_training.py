"""Fine-tuning of a Whisper: its loss and gradients against transformers', its lines, tags and jobs."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.data.batches.batching import Shape, padded_batch, step_columns
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.systems.whisper_asr.extractor import WhisperExtractor
from mindspore_osum.systems.whisper_asr.job import JOB, Loss, Sections
from mindspore_osum.systems.whisper_asr.system import GROWING, SYSTEM
from mindspore_osum.text.tokenizer import open_tokenizer
from mindspore_osum.weights_io import open_weights

FRAMES, TOKENS = 40, 24
LENGTHS = (31, 40, 23)  # mel frames: odd, whole, short
SMOOTHING = 0.1


class Job:
    """The part of a training job that decides the model."""

    labels = Sections().labels


def line(txt, task="<TRANSCRIBE>", lang="en", **more):
    return Utterance("a", "a.wav", txt, task, {"lang": lang} | more, where="set.jsonl:1")


LINES = (
    line("it was a long way"),
    line("<SAD>", "<EMOTION>", "zh"),
    line("开始", lang="chinese"),
)


@pytest.fixture(scope="module")
def cfg(folder):
    """The golden model, not padded, with all tags."""
    stored = read_config(folder)
    encoder = replace(stored.encoder, pad_to_seconds=0.0)
    return JOB.model(Job, replace(stored, encoder=encoder, dtype="float32"))


@pytest.fixture(scope="module")
def extractor(folder, cfg):
    tokenizer = open_tokenizer(folder)
    SYSTEM.fit_tokenizer(tokenizer, cfg, "the golden model")
    return WhisperExtractor(cfg, tokenizer)


@pytest.fixture(scope="module")
def mels():
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (frames, 80)).astype(np.float32) for frames in LENGTHS]


@pytest.fixture(scope="module")
def objective(folder, cfg):
    pytest.importorskip("mindformers", reason="needs mindformers")
    from mindspore_osum.device import use_device
    from mindspore_osum.training.checkpoint import load_start

    use_device("CPU")
    model = SYSTEM.build(cfg)
    load_start(model, str(folder), seed=5)
    return SYSTEM.objective(model, Sections(loss=Loss(SMOOTHING)), 0, 0, True)


def batch(extractor, mels, lines=LINES):
    """The columns of a batch, the order of the network's inputs."""
    from mindspore import Tensor

    examples = [extractor.example(utt, None, mel) for utt, mel in zip(lines, mels, strict=True)]
    shape = Shape(len(lines), FRAMES, FRAMES // 2, TOKENS)
    columns = padded_batch(extractor.columns, extractor.sizes, shape, examples)
    targets = sum(int((columns["labels_BS"][n] >= 0).sum()) for n in range(len(lines)))
    columns |= step_columns(len(lines), 0, len(lines), targets)
    return {name: Tensor(values) for name, values in columns.items()}


@pytest.fixture(scope="module")
def ours(objective, extractor, mels):
    """Loss, values, counts, and gradients by name."""
    from mindspore import ops

    columns = batch(extractor, mels)
    names, arrays = list(columns), list(columns.values())
    weights = list(objective.model.trainable_params())

    def loss(*values):
        # a graph loses types with `dict(zip(...))`
        return objective({name: value for name, value in zip(names, values)})  # noqa: C416

    (total, values, counts), grads = ops.value_and_grad(loss, None, weights, has_aux=True)(*arrays)
    found = {w.name.removeprefix("model."): g.asnumpy() for w, g in zip(weights, grads, strict=True)}
    return (
        float(total),
        {k: float(v) for k, v in values.items()},
        {k: float(v) for k, v in counts.items()},
        found,
    )


def test_loss_and_gradients_are_those_of_transformers(objective, extractor, mels, cfg, ours):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from mindspore_osum.models.whisper.reference import Encoder
    from mindspore_osum.systems.whisper_asr.reference import module_name, network

    net = network(cfg)
    theirs = {name: module_name(name) for name, _ in objective.model.parameters_and_names()}
    state = {theirs[n]: torch.tensor(p.asnumpy()) for n, p in objective.model.parameters_and_names()}
    state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
    net.load_state_dict(state)
    net.double()  # so that what differs are our roundings
    for param in net.parameters():
        param.requires_grad = True
    spread, total, ce, count = SMOOTHING / (cfg.decoder.vocab_size - 1), 0.0, 0.0, 0
    for utt, mel_TF in zip(LINES, mels, strict=True):
        ids = torch.tensor([[*extractor.prefix(utt), *extractor.answer(utt), cfg.vocabulary.eot]])
        frames = Encoder.forward(net.model.encoder, torch.tensor(mel_TF[None]).double())
        hidden = net.model.decoder(input_ids=ids[:, :-1], encoder_hidden_states=frames).last_hidden_state
        log_p = torch.log_softmax(net.proj_out(hidden)[0], -1)
        wanted = torch.full_like(log_p, spread).scatter(1, ids[0, 1:, None], 1 - SMOOTHING)
        total = total + torch.nn.functional.kl_div(log_p, wanted, reduction="sum")
        ce, count = ce - log_p.gather(1, ids[0, 1:, None]).sum().item(), count + len(log_p)
    total = total / len(LINES)
    total.backward()
    loss, values, counts, grads = ours
    assert loss == pytest.approx(total.item(), rel=1e-5)
    assert values["ce"] == pytest.approx(ce / count, rel=1e-5) and sum(counts.values()) == count
    assert sum(values[name] for name in counts) == pytest.approx(ce, rel=1e-5)
    found = dict(net.named_parameters())
    for name, grad in grads.items():
        expected = found[theirs[name]].grad.numpy()
        assert np.abs(grad - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3), name


def test_a_batch_is_its_rows_one_by_one(objective, extractor, mels, ours):
    """Neither the padding of a row nor its neighbours change its loss."""
    alone = [batch(extractor, [mel], [utt]) for utt, mel in zip(LINES, mels, strict=True)]
    losses = [float(objective(columns)[0]) for columns in alone]
    assert np.mean(losses) == pytest.approx(ours[0], rel=1e-5)


def test_new_rows_are_behind_the_published_ones(objective, folder, cfg):
    table_VD = dict(objective.model.parameters_and_names())[GROWING].asnumpy()
    with open_weights(folder) as weights:
        stored_VD = weights.read(GROWING)
    assert len(stored_VD) == 51865 and len(table_VD) == 51865 + len(cfg.tags) == cfg.decoder.vocab_size
    assert np.array_equal(table_VD[:51865], stored_VD)
    noise_VD = table_VD[51865:] - stored_VD[cfg.vocabulary.transcribe]
    assert 0.004 < noise_VD.std() < 0.006 and len(np.unique(noise_VD[:, 0])) == len(cfg.tags)
    assert min(cfg.tag_ids.values()) == 51865 and JOB.model(Job, cfg) == cfg  # none is added twice


def test_lines(extractor, cfg):
    words, spoken = cfg.vocabulary, " it was a long way"
    assert extractor.prefix(LINES[0]) == [
        words.sot,
        words.language("en"),
        words.transcribe,
        words.no_timestamps,
    ]
    assert extractor.tokenizer.decode(extractor.answer(LINES[0])) == spoken
    tags = cfg.tag_ids
    assert extractor.prefix(LINES[1])[1:3] == [words.language("zh"), tags["<|emotion|>"]]
    assert extractor.answer(LINES[1]) == [tags["<SAD>"]]
    assert extractor.tokenizer.decode(extractor.answer(LINES[2])) == "开始"
    assert tags["<SAD>"] not in extractor.answer(line("they wrote <SAD> on it"))  # a user's text


@pytest.mark.parametrize(
    ("utt", "said"),
    [
        (line("a", lang=None), "set.jsonl:1: extra.lang is missing"),
        (line("a", lang="klingon"), "language 'klingon' is unknown"),
        (line("a<SAD>", "<TRANSCRIBE> <EMOTION>"), "a Whisper learns one task from a line"),
        (line("<0.1>a<0.2>", "<TRANSCRIBE> <ALIGN>"), "task <TRANSCRIBE> <ALIGN>: a Whisper learns one"),
        (line("<GREEN>", "<EMOTION>"), "no emotion in"),
    ],
)
def test_lines_that_cannot_be_learned(extractor, utt, said):
    assert said in next(extractor.flaws(utt, 1.0))


def test_requests_of_a_tagged_model(extractor, cfg, folder):
    from mindspore_osum.inference.request import make_request

    prompts = SYSTEM.prompts(cfg, extractor.tokenizer)
    request = make_request("<EMOTION>", language="en")
    SYSTEM.check_request(request, cfg)
    prompt = prompts.prompt(request, 20)
    assert prompt.sequence.ids_L.tolist() == extractor.prefix(line("<SAD>", "<EMOTION>"))
    assert {cfg.tags[i - 51865] for i in prompt.first} >= {"<SAD>", "<OTHER>"} and len(prompt.first) == 8
    for task in ("ser", "<AGE> <GENDER>", "<S2TCHAT>"):
        with pytest.raises(
            UserError, match="this Whisper has one task a pass: asr, srwt for times, or one of"
        ):
            SYSTEM.check_request(make_request(task), cfg)
    with pytest.raises(UserError, match="use an OSUM model for everything else"):
        SYSTEM.check_request(request, read_config(folder))
    with pytest.raises(UserError, match="neither translated nor spelled"):
        SYSTEM.check_request(make_request("<EMOTION>", translate=True), cfg)
    answer = SYSTEM.answer("<SAD>", "<EMOTION>")
    assert answer.labels == {"emotion": "SAD"} and not answer.text
    assert not SYSTEM.doubtful("<SAD>", {}, -3.0) and SYSTEM.doubtful("sad", {}, -3.0)
