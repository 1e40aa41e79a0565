"""Probabilities of labels, against the model run on each answer as a whole."""

import math

import numpy as np
import pytest
import soundfile

from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.tasks import LABEL_SETS
from mindspore_osum.text.sequence import stack_sequences

LONGEST = 60  # tokens of an answer


@pytest.fixture(scope="module")
def engine(model_folder):
    return Engine(model_folder)


@pytest.fixture(scope="module")
def prompt(engine, tmp_path_factory):
    wav = tmp_path_factory.mktemp("wav") / "a.wav"
    samples = 0.1 * np.random.default_rng(1).standard_normal(9000)
    soundfile.write(wav, samples, 16_000)
    return engine._prepare(0, wav, make_request("sgc")).prompt


def by_whole_answers(engine, prompt, texts) -> np.ndarray:
    """Sum of log-probabilities of all tokens of each answer, one model run an answer, in numpy's float64."""
    from mindspore import Tensor

    sums, frames, start = [], len(prompt.mel_TF), len(prompt.sequence) - len(prompt.opening)
    # one length for all, as each new one takes seconds; what is behind an answer decides nothing
    length = start + LONGEST
    for text in texts:
        ids = engine.tokenizer.encode(text)
        one = stack_sequences([prompt.sequence], length, -(-frames // 8), 1)
        one["token_ids_BL"][0, start : start + len(ids)] = ids
        places_1L = np.arange(length, dtype=np.int32)[None]
        model = engine.generator.model
        hidden = model.hidden_states(
            Tensor(prompt.mel_TF[None]),
            Tensor(np.array([frames], np.int32)),
            Tensor(one["token_ids_BL"]),
            Tensor(one["speech_row_BL"]),
            Tensor(places_1L),
            Tensor(np.ones_like(places_1L)),
        )
        logits_LV = model.decoder.logits(hidden).asnumpy()[0].astype(np.float64)
        log_LV = logits_LV - np.log(np.exp(logits_LV).sum(1, keepdims=True))
        sums.append(sum(log_LV[start - 1 + n, token] for n, token in enumerate(ids)))
    return np.array(sums)


@pytest.mark.parametrize(
    ("raw", "field", "value", "texts"),
    [
        ("<asr><gender>hi<MALE>", "gender", "MALE", ["<asr><gender>hi<MALE>", "<asr><gender>hi<FEMALE>"]),
        ("hi<female>", "gender", "FEMALE", ["hi<male>", "hi<female>"]),
        (
            "<MALE>in between<YOUTH>the end",
            "age",
            "ADULT",
            ["<MALE>in between<CHILD>", "<MALE>in between<YOUTH>", "<MALE>in between<OLD>"],
        ),
    ],
)
def test_against_whole_answers(engine, prompt, raw, field, value, texts):
    """Also a label in the spelling of OSUM, and one in a corpus's that is not the last of the answer."""
    found = engine.labels.probabilities(prompt, raw, {field: value})
    values = next(s.values for s in LABEL_SETS.values() if s.field == field)
    assert list(found) == [field] and list(found[field]) == list(values)
    assert math.isclose(sum(found[field].values()), 1)
    sums = by_whole_answers(engine, prompt, texts)
    expected = np.exp(sums - sums.max())
    assert list(found[field].values()) == pytest.approx((expected / expected.sum()).tolist(), abs=1e-4)


def test_each_label_of_an_answer(engine, prompt):
    raw, labels = "<asr><age><gender>hi<OLD><MALE>", {"age": "OLD", "gender": "MALE"}
    found = engine.labels.probabilities(prompt, raw, labels)
    assert {field: len(p) for field, p in found.items()} == {"age": 3, "gender": 2}
    assert engine.labels.probabilities(prompt, "hi", {}) == {}


def test_labels_that_were_not_written(engine, prompt):
    """Each after the transcript and the labels before it, in the order of the tags, written or decided."""
    task = "<TRANSCRIBE> <AGE> <GENDER>"
    found = engine.labels.decide(prompt, task, "hi", {})
    age = max(found["age"], key=found["age"].get)
    for field, before in (("age", "<asr><age><gender>hi"), ("gender", f"<asr><age><gender>hi<{age}>")):
        texts = [f"{before}<{value}>" for value in found[field]]
        sums = by_whole_answers(engine, prompt, texts)
        expected = np.exp(sums - sums.max())
        assert list(found[field].values()) == pytest.approx((expected / expected.sum()).tolist(), abs=1e-4)
    assert list(engine.labels.decide(prompt, task, "hi", {"age": "OLD"})) == ["gender"]
    assert engine.labels.decide(prompt, "<TRANSCRIBE>", "hi", {}) == {}


def test_only_when_asked_for(engine, tmp_path):
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(8000), 16_000)
    short = Sampling(max_new_tokens=4)
    plain, asked = (engine.answer([wav], sampling=short, probabilities=p)[0] for p in (False, True))
    assert plain.probabilities is None
    assert asked.probabilities is not None and asked.probabilities.keys() == asked.labels.keys()
