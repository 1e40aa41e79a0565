"""The engine: recordings in, results out, whatever the recordings are."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config, write_config
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.tasks import TASKS, parse_answer, tags_of
from tests.inference.common import train_tokenizer

SHORT = Sampling(max_new_tokens=12)


@pytest.fixture(scope="module")
def engine(model_folder):
    return Engine(model_folder)


def tone(seconds: float, hertz: float) -> np.ndarray:
    """A tone in noise; every one of them different."""
    t = np.arange(round(16_000 * seconds)) / 16_000
    noise = np.random.default_rng(round(hertz)).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * hertz * t) + 0.02 * noise).astype(np.float32)


@pytest.fixture
def wavs(tmp_path):
    """Paths of five recordings, neither sorted by length nor by name."""
    paths = []
    for n, (seconds, hertz) in enumerate([(0.9, 300), (0.2, 500), (1.2, 700), (0.5, 400), (0.7, 900)]):
        paths.append(tmp_path / f"{n}.wav")
        soundfile.write(paths[-1], tone(seconds, hertz), 16_000)
    return paths


def answers(results):
    """What must not depend on the company: everything but the computing time."""
    return [{name: value for name, value in vars(r).items() if name != "rtf"} for r in results]


def test_results_keep_the_order_and_depend_on_nothing_else(engine, wavs):
    """Bad recordings in between; batches of 1, 2 and 8; a window of several batches."""
    bad = wavs[0].with_name("bad.wav")
    bad.write_bytes(b"no audio at all")
    sources = [wavs[0], bad, wavs[1], wavs[2], wavs[0].with_name("absent.wav"), wavs[3], wavs[4], wavs[1]]
    results = engine.answer(sources, sampling=SHORT, batch_size=8)
    assert [r.audio for r in results] == [str(s) for s in sources]
    assert [r.error is None for r in results] == [True, False, True, True, False, True, True, True]
    assert len({r.raw for r in results if not r.error}) == 5
    assert "bad.wav: not audio" in results[1].error and "absent.wav: no such audio file" in results[4].error
    assert not any("\n" in r.error for r in results if r.error)
    for batch_size in (1, 2):
        assert answers(engine.answer(sources, sampling=SHORT, batch_size=batch_size)) == answers(results)
    for r in results:
        if not r.error:
            parsed = parse_answer(r.raw, "asr")
            assert (r.text, r.tags, r.labels, r.words) == (
                parsed.text,
                parsed.tags,
                parsed.labels,
                parsed.words,
            )
            assert r.rtf > 0 and r.cut
    assert [r.seconds for r in results] == [0.9, 0, 0.2, 1.2, 0, 0.5, 0.7, 0.2]


def test_windows(engine, wavs, monkeypatch):
    """More recordings than are read ahead."""
    monkeypatch.setattr("mindspore_osum.inference.answering.WINDOW", 1)
    whole = engine.answer(wavs, sampling=SHORT, batch_size=8)
    read = []
    results = engine.answer_each((read.append(w) or w for w in wavs), sampling=SHORT, batch_size=2)
    first = next(results)
    assert len(read) == 2
    assert answers([first, *results]) == answers(whole)


def test_kinds_of_sources(engine, wavs):
    """A path, its bytes, a file object, an array, a manifest line and a part of a longer recording."""
    data = wavs[0].read_bytes()
    samples, rate = soundfile.read(wavs[0], dtype="float32")
    line = Utterance("k", str(wavs[0]), "x", "<TRANSCRIBE>", where="list:1")
    longer = wavs[0].with_name("longer.wav")
    soundfile.write(longer, np.concatenate([np.zeros(8000), samples, np.ones(8000)]), rate)
    part = Utterance("k", str(longer), "x", "<TRANSCRIBE>", start=0.5, end=1.4, where="list:2")
    results = engine.answer(
        [str(wavs[0]), data, io.BytesIO(data), (samples, rate), line, part], sampling=SHORT, batch_size=8
    )
    assert {r.error for r in results} == {None}
    assert len({r.raw for r in results}) == 1
    assert [r.audio for r in results] == [str(wavs[0]), "bytes", "bytes", "array", str(wavs[0]), str(longer)]
    assert {round(r.seconds, 6) for r in results} == {0.9}


def test_requests(engine, wavs):
    """The task's tags or the words of the instruction reach the model; spoken chat has no request."""
    by_task = {
        task: engine.answer([wavs[0]], task=task, sampling=SHORT)[0].raw for task in ("asr", "ser", "sttc")
    }
    assert by_task["asr"] == engine.answer([wavs[0]], sampling=SHORT)[0].raw
    free = replace(make_request("asr"), force_tags=False)  # the tags as words are this request
    by_words = engine.answer(
        [wavs[0]] * 2, requests=[make_request(instruction="<asr>"), free], sampling=SHORT
    )
    assert by_words[0].raw == by_words[1].raw
    assert by_task["ser"] == engine.answer([wavs[0]], task="<TRANSCRIBE><EMOTION>", sampling=SHORT)[0].raw
    by_task["words"] = engine.answer([wavs[0]], instruction="how old is she", sampling=SHORT)[0].raw
    assert len(set(by_task.values())) == 4


def test_a_request_for_each_recording(engine, wavs):
    """Tags, words, both forms of spoken chat and words without a recording: a batch of all is one by one."""
    line = Utterance("q", None, "x", "<TEXT2TEXT>", where="list:1")
    sources = [wavs[0], wavs[1], wavs[2], line, wavs[0], wavs[3], wavs[4], wavs[0]]
    requests = [
        make_request("asr"),
        make_request(instruction="how old is she"),
        make_request("sttc"),
        Request("what is a lamp?", "text2text", "<TEXT2TEXT>"),
        make_request(instruction="<chat>"),
        make_request("<AGE> <GENDER>"),
        Request("tell me who speaks", "intent_classification", "<INTENT_CLASSIFICATION>"),
        make_request("sttc"),
    ]
    together = engine.answer(sources, requests=requests, sampling=SHORT)
    assert {r.error for r in together} == {None}
    for source, request, result in zip(sources, requests, together, strict=True):
        assert answers(engine.answer([source], requests=[request], sampling=SHORT)) == answers([result])
    in_threes = engine.answer(sources, requests=requests, sampling=SHORT, batch_size=3)
    assert answers(in_threes) == answers(together)
    assert len({r.raw for r in together}) == 8
    assert together[3].seconds == together[3].rtf == 0 and together[3].answer == together[3].raw.strip()
    chat = engine.answer([wavs[0]], task="sttc", sampling=SHORT)[0]
    assert chat.raw == together[7].raw != together[4].raw


@pytest.mark.parametrize("task", [*TASKS, "<TRANSCRIBE> <AGE> <GENDER>", "<AGE>"])
def test_a_known_task_is_the_one_that_is_answered(engine, wavs, task):
    """Random weights write no tags by themselves; the answer is what follows them."""
    request = make_request(task)
    forced, free = (replace(request, force_tags=on) for on in (True, False))
    with_tags, without = engine.answer(wavs[:1] * 2, requests=[forced, free], sampling=SHORT)
    assert tuple(with_tags.tags) == tags_of(task) and without.tags == []
    opening = engine.prompt(wavs[0], forced)[0].opening
    assert with_tags.raw.startswith(engine.tokenizer.decode(opening))
    assert len(engine.tokenizer.encode(with_tags.raw)) > len(opening)
    assert engine.prompt(wavs[0], free)[0].opening == ()
    assert "".join(engine.stream(wavs[0], forced, SHORT)) == with_tags.raw


def test_batches_as_they_are_ready(engine, wavs):
    """Each result once, under its number; what cannot be answered comes first."""
    questions = [(wav, make_request("ser")) for wav in (*wavs, wavs[0].with_name("absent.wav"))]
    batches = list(engine.answer_batches(questions, SHORT, batch_size=2))
    assert [len(batch) for batch in batches] == [1, 2, 2, 1]
    assert "no such audio file" in batches[0][5].error
    merged = {number: result for batch in batches for number, result in batch.items()}
    assert answers(merged[n] for n in range(5)) == answers(engine.answer(wavs, task="ser", sampling=SHORT))


def test_a_smaller_rest_takes_the_graphs_that_are_there(model_folder, wavs):
    fresh = Engine(model_folder)
    fresh.answer(wavs[:4], sampling=SHORT, batch_size=4)
    compiled = fresh.generator.compiles
    fresh.answer(wavs, sampling=SHORT, batch_size=4)  # four, and one that is left
    assert fresh.generator.compiles == compiled


def test_requests_must_be_as_many_as_recordings(engine, wavs):
    for n, message in ((4, "fewer than recordings"), (6, "more than recordings")):
        with pytest.raises(UserError, match=message):
            engine.answer(wavs, requests=[make_request()] * n, sampling=SHORT)
    with pytest.raises(UserError, match="exclude a task"):
        engine.answer(wavs, task="asr", requests=[make_request()] * 5)


def test_impossible_requests(engine, wavs):
    for wrong, message in (
        ({"task": "asr", "instruction": "x"}, "exclude each other"),
        ({"instruction": "  "}, "the instruction is empty"),
        ({"task": "asrr"}, "choose one of asr"),
        ({"task": "<INTENT_CLASSIFICATION>"}, "reads words, not a recording"),
        ({"batch_size": 0}, "batch_size 0: must be 1 or more"),
    ):
        with pytest.raises(UserError, match=message):
            engine.answer(wavs, **wrong)
    assert make_request(task="sttc").words == "<chat>"


def test_too_long_recordings_are_errors_of_their_own(engine, wavs, tmp_path):
    """Longer than the encoder reads, or, with the request, than the decoder's positions (512 here)."""
    endless, long = tmp_path / "endless.wav", tmp_path / "long.wav"
    soundfile.write(endless, np.zeros(16_000 * 61, np.int16), 16_000)
    soundfile.write(long, np.zeros(16_000 * 45, np.int16), 16_000)
    line = Utterance("k", str(endless), "x", "<TRANSCRIBE>", where="list:7")
    nothing = Utterance("q", None, "x", "<TEXT2TEXT>", where="list:8")
    results = engine.answer([endless, wavs[0], long, line, nothing], sampling=SHORT, batch_size=8)
    assert results[0].error == (
        f"{endless}: 61.00 s of audio, the model takes at most 60 s at once; split the recording"
    )
    assert results[1].error is None
    assert results[2].error.startswith(f"{long}: prompt of 5") and "the model has 512" in results[2].error
    assert results[3].error == results[0].error.replace(str(endless), "list:7")
    assert results[4].error == "list:8: no recording in this line; `osum infer` answers recordings"
    assert answers(results[1:2]) == answers(engine.answer([wavs[0]], sampling=SHORT))


def test_an_answer_that_ends_is_not_cut(engine, wavs, monkeypatch):
    free = engine.answer([wavs[0]], sampling=SHORT)[0]
    prompt = engine._prepare(0, wavs[0], make_request()).prompt
    tokens = [int(t[0]) for t in engine.generator.stream([prompt], SHORT)]
    monkeypatch.setattr(engine.generator, "eos_ids", frozenset([tokens[4]]))
    ended = engine.answer([wavs[0]], sampling=SHORT)[0]
    assert not ended.cut and free.cut
    assert ended.raw == engine.tokenizer.decode([*prompt.opening, *tokens[: tokens.index(tokens[4])]])


def test_no_tokenizer_or_that_of_another_model(model_folder, wavs, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    tokenizer = folder / "tokenizer.model"
    tokenizer.unlink()
    with pytest.raises(UserError, match="no tokenizer in this folder"):
        Engine(folder)
    tokenizer.write_bytes(train_tokenizer(pieces=700))
    with pytest.raises(UserError, match="700 pieces, but the model has only 512"):
        Engine(folder)
    tokenizer.write_bytes(train_tokenizer(pieces=400))  # seen when the model writes one that is not there
    result = Engine(folder).answer([wavs[0]], sampling=SHORT)[0]
    assert "is none of the 400 pieces" in result.error and result.error.startswith(f"{wavs[0]}: id ")


def test_devices(model_folder):
    with pytest.raises(UserError, match="'GPU' is unknown"):
        Engine(model_folder, "GPU")


def test_half_precision_folder_on_cpu(model_folder, wavs, tmp_path):
    """CPU computes in float32 whatever the type in config.json."""
    folder = tmp_path / "half"
    shutil.copytree(model_folder, folder)
    write_config(folder, replace(read_config(folder), dtype="bfloat16"))
    half = Engine(folder)
    assert half.cfg.dtype == "float32"
    assert answers(half.answer([wavs[0]], sampling=SHORT)) == answers(
        Engine(model_folder).answer([wavs[0]], sampling=SHORT)
    )


def test_merged_adapters_answer_as_adapters_do(engine, generator, model_folder, prompt):
    prompts = [prompt(11, 9, 80), prompt(12, 20, 100)]
    sampling = Sampling(max_new_tokens=8, confidence=True)
    merged, apart = (g.generate(prompts, sampling) for g in (engine.generator, generator))
    assert [a.tokens for a in merged] == [a.tokens for a in apart]
    for a, b in zip(merged, apart, strict=True):
        np.testing.assert_allclose(a.log_p, b.log_p, atol=1e-4)
    kept = Engine(model_folder, merge_lora=False).generator.model
    counts = [sum("lora" in p.name for p in m.get_parameters()) for m in (engine.generator.model, kept)]
    assert counts == [0, 2 * 6 * 2]  # A and B of six modules in two layers
