"""`from mindspore_osum import OSUM`: any recording of any length, any request."""

import inspect
import io
import json

import mindspore as ms
import numpy as np
import pytest
import soundfile

import mindspore_osum
from mindspore_osum import OSUM
from mindspore_osum.errors import UserError
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.passes import merge, plan
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response
from mindspore_osum.speech.long import chunks
from mindspore_osum.tasks import TASKS
from tests.speech.voices import RECORDINGS, noise, row, voice

SHORT = Sampling(max_new_tokens=6)
HOW = {"sampling": SHORT, "batch_size": 4}


@pytest.fixture(scope="module")
def waits():
    """What was waited for."""
    return []


@pytest.fixture(scope="module")
def osum(model_folder, waits):
    return OSUM.load(model_folder, waiting=lambda *wait: waits.append(wait))


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """18 s: four voices with long pauses."""
    first, second, third = voice(2.0), voice(3.0, pitch=90.0), voice(1.0, pitch=220.0)
    wave_N, _ = row([0.6, first, 1.8, second, 1.7, third, 1.9, voice(3.5)])
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, np.concatenate([wave_N, noise(2.5, 1e-4)]), 16_000)
    return path


def test_a_short_recording_is_answered_as_the_engine_does(osum):
    """Bit for bit the same answer, under the same parts."""
    words = "谁在说话，多大年纪？"
    response = osum(RECORDINGS[0], words, **HOW)
    (result,) = osum.engine.answer([RECORDINGS[0]], instruction=words, sampling=SHORT, batch_size=4)
    assert isinstance(response, Response) and len(response.segments) == 1
    for name in ("audio", "text", "tags", "labels", "words", "answer", "raw", "cut", "seconds"):
        assert getattr(response, name) == getattr(result, name), name
    (segment,) = response.segments
    assert (segment.start, segment.end) == (0.0, pytest.approx(response.seconds))
    assert response.rtf > 0 and response.probabilities is None


def test_kinds_of_recordings(osum):
    data = RECORDINGS[0].read_bytes()
    samples, rate = soundfile.read(RECORDINGS[0], dtype="float32")
    kinds = [RECORDINGS[0], str(RECORDINGS[0]), data, bytearray(data), io.BytesIO(data), (samples, rate)]
    kinds.append((np.round(samples * 32768).astype(np.int16), rate))
    responses = osum(kinds, **HOW)
    assert [r.error for r in responses] == [None] * len(kinds)
    assert len({r.raw for r in responses}) == 1
    assert osum((samples, rate), **HOW).raw == osum((path for path in RECORDINGS[:1]), **HOW)[0].raw


def test_long_recordings(osum, talk):
    """Every chunk is answered as if it were a recording of its own; its times are shifted back."""
    response = osum(talk, max_seconds=5.0, **HOW)
    expected = list(chunks(talk, 5.0))
    assert len(expected) == 4
    alone = osum.engine.answer([(c.wave_N, 16_000) for c in expected], sampling=SHORT, batch_size=4)
    assert [s.raw for s in response.segments] == [result.raw for result in alone]
    assert [(s.start, s.end) for s in response.segments] == [(c.start, c.end) for c in expected]
    assert response.seconds == pytest.approx(18.0)
    assert response.raw == "\n".join(result.raw for result in alone)


def test_among_others_in_order(osum, talk, tmp_path):
    """Long, broken, silent and short ones; progress adds up to what there was to hear."""
    silent, broken = tmp_path / "silent.wav", tmp_path / "broken.wav"
    soundfile.write(silent, np.zeros(16_000 * 8), 16_000)
    broken.write_bytes(b"nothing")
    sources = [talk, broken, RECORDINGS[0], silent, tmp_path / "absent.wav"]
    done = []
    responses = osum(sources, max_seconds=5.0, progress=done.append, **HOW)
    assert [r.audio for r in responses] == [str(source) for source in sources]
    assert [len(r.segments) for r in responses] == [4, 0, 1, 1, 0]
    assert [r.no_speech for r in responses] == [False, False, False, True, False]
    assert [bool(r.error) for r in responses] == [False, True, False, False, True]
    assert responses[1].error.startswith(f"{broken}: not audio") and "no such" in responses[4].error
    assert sum(done) == pytest.approx(sum(r.seconds for r in responses))
    assert responses[2].raw == osum(RECORDINGS[0], **HOW).raw
    assert osum([], **HOW) == [] and osum([broken], **HOW)[0].error


@pytest.mark.parametrize("seconds", [3, 8])
def test_silence_and_noise_are_no_speech(osum, seconds):
    """The same for short and for long ones; without the gate the model is asked about short ones."""
    for level in (0.0, 0.01):
        source = noise(seconds, level), 16_000
        response = osum(source, max_seconds=5.0, **HOW)
        assert response.no_speech and response.text == response.raw == ""
        assert [(s.start, s.end, s.no_speech) for s in response.segments] == [(0.0, seconds, True)]
        assert list(osum.stream(source, max_seconds=5.0)) == [] and "no speech found" in str(response)
        assert osum(source, max_seconds=5.0, gate=False, **HOW).no_speech == (seconds > 5)


def test_channels(osum):
    """Each channel is answered as if it were a recording of its own; one is silent."""
    (left, rate), right = soundfile.read(RECORDINGS[0], dtype="float32"), voice(1.5)
    pair = np.zeros((max(len(left), len(right)), 2), np.float32)
    pair[: len(left), 0], pair[: len(right), 1] = left, right
    split = osum((pair, rate), channels="split", **HOW).by_channel()
    assert list(split) == ["left", "right"]
    for n, (name, part) in enumerate(split.items()):
        alone = osum((pair[:, n].copy(), rate), **HOW)
        assert part.raw == alone.raw == osum((pair, rate), channels=name, **HOW).raw
        assert {s["channel"] for s in part.to_dict()["segments"]} == {name}
    pair[:, 1] = 0
    done = []
    split = osum((pair, rate), channels="split", progress=done.append, **HOW)
    assert sum(done) == pytest.approx(split.seconds) and not split.no_speech
    assert [part.no_speech for part in split.by_channel().values()] == [False, True]
    with pytest.raises(UserError, match="no channel 2 in it"):
        osum((left, rate), channels="right", **HOW)
    with pytest.raises(UserError, match="channels 'both'"):
        osum((left, rate), channels="both", **HOW)
    mono = osum((left, rate), channels="split", **HOW)
    assert mono.raw == osum((left, rate), **HOW).raw and "channel" not in mono.to_dict()["segments"][0]


def test_opposite_phase_is_said(osum):
    left, rate = soundfile.read(RECORDINGS[0], dtype="float32")
    response = osum((np.stack([left, -left], axis=1), rate), **HOW)
    assert response.raw == osum((left, rate), **HOW).raw
    assert len(response.warnings) == 1 and "choose a channel" in response.warnings[0]
    (alone,) = osum.engine.answer([(np.stack([left, -left], axis=1), rate)], sampling=SHORT)
    assert alone.warnings == response.warnings


def test_several_tasks(osum):
    """A combined key is one pass; otherwise the passes are merged in order."""
    one = osum(RECORDINGS[0], tasks=["asr", "gender", "age"], **HOW)
    (asked,) = osum.engine.answer([RECORDINGS[0]], task="<TRANSCRIBE><AGE><GENDER>", sampling=SHORT)
    assert one.raw == asked.raw
    three = osum.annotate(RECORDINGS[0], **HOW)
    requests = plan(list(TASKS))
    results = osum.engine.answer(RECORDINGS[:1] * 3, requests=requests, sampling=SHORT, batch_size=4)
    assert len(requests) == 3
    assert three.segments == [merge([r.segments[0] for r in results], 0.0, three.segments[0].end)]
    assert json.loads(json.dumps(three.to_dict()))["raw"].count("\n") >= 2
    assert osum.transcribe(RECORDINGS[0], **HOW).raw == osum(RECORDINGS[0], task="srwt", **HOW).raw


def test_stream(osum, talk):
    for source, request in ((RECORDINGS[0], {"task": "srwt"}), (talk, {"request": "what do you hear"})):
        pieces = list(osum.stream(source, sampling=SHORT, max_seconds=5.0, **request))
        response = osum(source, max_seconds=5.0, **request, **HOW)
        assert "".join(pieces) == response.raw and len(pieces) > len(response.segments)
    first = next(osum.stream(RECORDINGS[0], sampling=SHORT))  # and nobody reads on
    assert osum(RECORDINGS[0], **HOW).raw.startswith(first)


def test_what_cannot_be_streamed_is_named(osum):
    with pytest.raises(UserError, match=f"^{RECORDINGS[0]}: "):
        list(osum.stream(RECORDINGS[0], "word " * 2000))


def test_streamed_characters_are_whole(osum, monkeypatch):
    """A character of several byte tokens comes in one piece, also where others of its bytes never come."""
    tokenizer = osum.engine.tokenizer
    ids = [i for char in "a𝄞b€" for i in tokenizer.encode(char)] + tokenizer.encode("🙂")[:-1]
    steps = (np.array([i], np.int32) for i in ids)
    monkeypatch.setattr(osum.engine.generator, "stream", lambda *_: steps)
    pieces = list(osum.engine.stream(RECORDINGS[0], make_request(instruction="what do you hear")))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert any("𝄞" in piece for piece in pieces) and any("€" in piece for piece in pieces)
    assert not any("\ufffd" in piece for piece in pieces[:-1])


@pytest.mark.parametrize(
    "audio, how, message",
    [
        ("absent.wav", {}, "absent.wav: no such audio file"),
        (np.zeros(16_000), {}, "does not say its rate"),
        (RECORDINGS[0], {"request": "x", "task": "asr"}, "exclude each other"),
        (RECORDINGS[0], {"request": "x", "tasks": ["asr"]}, "one of the three"),
        (RECORDINGS[0], {"task": "ars"}, "did you mean 'asr'"),
        (RECORDINGS[0], {"max_seconds": 90}, "max_seconds 90: chunks are 1 to 60"),
        (RECORDINGS[0], {"batch_size": 0}, "batch_size 0"),
        (("a.wav", 16_000), {}, r"a tuple \(str, int\): it must be \(array, rate\)"),
        ((16_000, np.zeros(16_000)), {}, r"a tuple \(int, ndarray\): it must be \(array, rate\)"),
        ((np.zeros(16_000), "16000"), {}, "sample rate '16000'"),
        (([[0.0], [0.0, 1.0]], 16_000), {}, "audio of type list: cannot be made an array"),
        ((np.zeros(0), 16_000), {}, "no audio in it"),
        ((np.zeros((16_000, 1, 1)), 16_000), {}, "the shape must be"),
        ((np.zeros(16_000, np.int64), 16_000), {}, "the type must be float, int16"),
        ((ms.Tensor(np.zeros(16_000, np.int64)), 16_000), {}, "the type must be float, int16"),
        (ms.Tensor(np.zeros(16_000, np.float32)), {}, "Tensor of samples: an array does not say its rate"),
        ([0.0, 0.1, 0.2], {}, r"a list of numbers does not say its rate: give a tuple \(array, rate\)"),
        ([np.zeros(16_000), 16_000], {}, "a list of numbers does not say its rate"),
        (None, {}, "audio of type NoneType: give a path"),
        (16_000, {}, "audio of type int: give a path"),
        ({"array": np.zeros(9), "sampling_rate": 16_000}, {}, r"give \(audio\['array'\]"),
        ({"a.wav"}, {}, "audio of type set: give a path"),
        (RECORDINGS[0], {"request": str(RECORDINGS[1])}, "several recordings are given as a list"),
        (RECORDINGS[0], {"request": ["asr"]}, "request of type list: give text"),
        (
            RECORDINGS[0],
            {"task": ["sgc"]},
            "task of type list: give text; several tasks are given as `tasks`",
        ),
        (RECORDINGS[0], {"tasks": 5}, "tasks: 5 is no task; give names in a list"),
        (RECORDINGS[0], {"tasks": ["asr", None]}, "tasks: None is no task"),
        (RECORDINGS[0], {"tasks": "asr,gendr"}, "task 'gendr': choose"),
        (RECORDINGS[0], {"task": "translate"}, "task 'translate': the model does not translate"),
        (RECORDINGS[0], {"language": "en"}, "language: a model of osum has no such setting; ask without"),
        ("https://example.org/a.wav", {}, "are fetched; download it and give the file"),
        (RECORDINGS[0], {"max_tokens": 5}, "no setting 'max_tokens'; did you mean 'max_new_tokens'"),
        (RECORDINGS[0], {"max_new_tokens": "5"}, "max_new_tokens='5': must be a whole number"),
        (RECORDINGS[0], {"sampling": 5}, "sampling of type int: give a Sampling"),
    ],
)
def test_mistakes(osum, audio, how, message):
    with pytest.raises(UserError, match=message) as error:
        osum(audio, **how)
    assert "\n" not in str(error.value)


def test_mistakes_of_a_call(osum):
    """What Python would refuse with a TypeError is one line, too."""
    for call, message in (
        (lambda: osum("a.wav", "who?", "sgc"), "call: too many positional arguments; settings are given by"),
        (lambda: osum.transcribe(), "transcribe: missing a required argument: 'audio'"),
        (lambda: osum.transcribe(RECORDINGS[0], language="zh"), "language: a model of osum has no such"),
        (lambda: osum.inputs("a.wav", language="zh"), "no setting 'language'"),
        (lambda: OSUM.load("tiny", dtype="float16"), "no setting 'dtype'"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_tasks_may_be_one_text(osum):
    assert (
        osum(RECORDINGS[0], tasks="asr, gender", **HOW).raw == osum(RECORDINGS[0], tasks=["sgc"], **HOW).raw
    )


def test_tags_that_are_no_combination_are_said(osum):
    assert any(
        "no published combination" in w for w in osum(RECORDINGS[0], "<emotion><gender>", **HOW).warnings
    )


def test_several_of_different_kinds(osum):
    """What is no recording among several has an error, and the others are answered."""
    good, bad = osum([RECORDINGS[0], 7], **HOW)
    assert not good.error and bad.error.startswith("int: ") and "type int: give a path" in bad.error
    with pytest.raises(UserError, match="recording 1 of the list is None: give a path"):
        osum([RECORDINGS[0], None], **HOW)


def test_waits_have_names(osum, waits):
    """Bytes of weights, then graphs by number; each ends with nothing to wait for."""
    osum(RECORDINGS[0], **HOW)
    names = [what for what, _, _ in waits]
    end = names.index("")
    assert set(names[:end]) == {"weights"} and set(names[end:]) == {"graph", ""}
    done = [done for _, done, _ in waits[:end]]
    assert done == sorted(done) and done[0] == 0 and done[-1] < waits[0][2]
    graphs = [done for what, done, _ in waits if what == "graph"]
    assert graphs == list(range(1, osum.engine.generator.compiles + 1))
    totals = [total for what, _, total in waits if what == "graph"]
    assert totals[:2] == [2, 2] and all(done <= total for done, total in zip(graphs, totals, strict=True))


def test_settings_have_names(osum):
    """In the signature, in the help, and with the effect of a `Sampling`."""
    for method in (osum.__call__, osum.annotate, osum.transcribe, osum.each):
        parameters = inspect.signature(method).parameters
        assert parameters["max_new_tokens"].default == Sampling().max_new_tokens
        assert "settings" not in parameters
        assert "longest answer, in tokens" in inspect.getdoc(method) and "settings :" not in method.__doc__
    assert {"top_p", "vad"} < inspect.signature(osum.stream).parameters.keys()
    assert {"pause", "idle", "seed"} < inspect.signature(osum.live).parameters.keys()
    named = osum(RECORDINGS[0], max_new_tokens=6, batch_size=4)
    assert named.raw == osum(RECORDINGS[0], **HOW).raw
    assert "OSUM" in dir(mindspore_osum) and repr(osum).endswith(" on CPU>")


def test_a_chunk_that_is_too_long_for_the_model(osum, tmp_path):
    """512 positions cannot hold 45 s; the recording says so, with the time."""
    soundfile.write(tmp_path / "long.wav", np.zeros(16_000 * 45), 16_000)
    with pytest.raises(UserError, match=r"long.wav: 0.0 s to 45.0 s: prompt of 5\d\d positions"):
        osum(tmp_path / "long.wav", max_seconds=60.0, gate=False)


def test_rows_without_a_piece_are_not_drawn(osum, monkeypatch):
    """A model may have more rows than its tokenizer has pieces."""
    monkeypatch.setattr(osum.engine.generator, "pieces", 40)
    prompt = osum.engine.prompt(RECORDINGS[0], make_request(instruction="anything"))[0]
    (written,) = osum.engine.generator.generate([prompt], Sampling(max_new_tokens=16, temperature=1e4))
    assert written.tokens and max(written.tokens) < 40


def test_what_is_no_request_is_told(osum):
    for requests in ("asr", ["asr"]):
        with pytest.raises(UserError, match="give a list of what `make_request` or `plan` returns"):
            osum.each([RECORDINGS[0]], requests)


def test_load(model_folder, monkeypatch):
    for wrong in (5, None, b"tiny"):
        with pytest.raises(UserError, match="model of type .*: give a folder or a name"):
            OSUM.load(wrong)
    monkeypatch.chdir(model_folder.parent)
    with pytest.raises(UserError, match="tinyy: no such model folder.*did you mean 'tiny'"):
        OSUM.load("tinyy")
    assert OSUM.load("tiny").engine.cfg.decoder.vocab_size == 512  # a folder here goes before the bundled one
    assert isinstance(OSUM.load(model_folder).engine, Engine)
