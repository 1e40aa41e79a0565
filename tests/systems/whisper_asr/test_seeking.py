"""Recordings read window by window: sections, where the next window begins, what the model reads of the last
ones, and several recordings in one batch; the model's answers are from a script."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.respond import respond
from mindspore_osum.inference.tokens import Generated
from mindspore_osum.results import Answer, Response
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.systems.whisper_asr.prompts import WhisperPrompts
from mindspore_osum.systems.whisper_asr.sections import read
from mindspore_osum.systems.whisper_asr.words import Section, SpokenWord, place, spelled
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.speech.voices import voice
from tests.systems.whisper_asr.common import write_tokenizer

SYSTEM, BASE = system_of("whisper_asr"), preset("whisper_base")
WORDS = BASE.vocabulary


def at(seconds: float) -> int:
    """The timestamp token."""
    return WORDS.first_time + round(seconds * 50)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    tokenizer = open_tokenizer(write_tokenizer(tmp_path_factory.mktemp("words")))
    SYSTEM.fit_tokenizer(tokenizer, BASE, "the model")
    return WhisperPrompts(BASE, tokenizer)


@pytest.mark.parametrize(
    "tokens, rest, sections, until, closed",
    [
        ([at(0), 5, at(2), at(2), 6, at(4), at(4)], False, [(10, 12), (12, 14)], 14, False),
        ([at(0), 5, at(2), at(2), 6, 7], False, [(10, 12)], 12, False),  # the next window has the rest
        ([at(0), 5, at(2), at(2), 6, 7], True, [(10, 12), (12, 30)], 30, False),
        (
            [at(0), 5, at(2), at(3), 6, at(4)],
            False,
            [(10, 12), (13, 14)],
            30,
            True,
        ),  # nothing is said after it
        ([at(1), 5, at(2)], False, [(10, 12)], 30, True),
        ([at(0), 5, 6], False, [(10, 30)], 30, False),
        ([5, 6], True, [(10, 30)], 30, False),
        ([], False, [(10, 30)], 30, False),
    ],
)
def test_sections(tokens, rest, sections, until, closed):
    found = read(tokens, WORDS, 10.0, 20.0, rest)
    assert [(one.start, one.end) for one in found.sections] == sections
    assert (found.until, found.closed) == (until, closed)


def written(tokens, temperature=0.0, silence=0.1, log_p=-0.2, **more) -> Generated:
    facts = {"language": "de", "no_speech_probability": silence, "language_probability": 1.0}
    return Generated(
        tokens, cut=False, facts=facts, sum_log_p=log_p * (len(tokens) + 1), temperature=temperature, **more
    )


def answer_to(prompts, one: Generated) -> Answer:
    answer = SYSTEM.answer(prompts.tokenizer.decode(one.kept), "<TRANSCRIBE>")
    answer.cut = one.cut
    SYSTEM.describe(answer, one.facts, one.mean_log_p)
    return answer


def before(prompts, seeking) -> list[int]:
    ids = prompts.prompt(seeking.request, 1500).sequence.ids_L.tolist()
    assert ids[-3:-1] == [WORDS.sot, ids[-2]] and ids[-1] == WORDS.transcribe  # it goes by timestamps
    return ids[:-3]


def test_windows_and_prompts(prompts):
    request = make_request("asr", prompt="ab", hotwords="x")
    seeking = SYSTEM.seeking(prompts, request, 7000, True)
    ids, hot = prompts.text("ab"), prompts.text("x")
    assert (seeking.at, seeking.frames) == (0, 3000)
    assert before(prompts, seeking) == [WORDS.start_of_previous, *hot, *ids]
    first = [at(0), 65, at(20), at(20), 66]
    answer = answer_to(prompts, written(first))
    seeking.take(answer, written(first), None)
    assert [tuple(one) for one in answer.sections] == [(prompts.tokenizer.decode([65]), 0, 20)]
    assert (seeking.at, seeking.frames, seeking.request.language) == (2000, 3000, "de")
    assert before(prompts, seeking) == [WORDS.start_of_previous, *hot, *ids, *first[:3]]
    silent = written([at(0), 67, at(1), at(1)], silence=0.9, log_p=-2.0)
    seeking.take(answer_to(prompts, silent), silent, None)
    assert seeking.at == 5000 and before(prompts, seeking)[-3:] == first[:3]  # nobody speaks: it is left out
    drawn = written([at(0), 68, at(2), at(2)], temperature=0.6)
    seeking.take(answer_to(prompts, drawn), drawn, None)
    assert (seeking.at, seeking.frames) == (5200, 1800)
    assert before(prompts, seeking) == [WORDS.start_of_previous, *hot]  # what was guessed is not read again
    closed = written([at(0), 69, at(2)])
    seeking.take(answer_to(prompts, closed), closed, None)
    assert seeking.frames == 0 and seeking.at == 7000


def test_previous_text_is_not_read_if_not_wanted(prompts):
    seeking = SYSTEM.seeking(prompts, make_request("asr", prompt="ab"), 7000, False)
    assert before(prompts, seeking)[1:] == prompts.text("ab")
    one = written([at(0), 65, at(20), at(20)])
    seeking.take(answer_to(prompts, one), one, None)
    assert seeking.at == 2000 and before(prompts, seeking) == []


def test_the_last_tokens_fit(prompts):
    """Hotwords first, then as much as half of the positions hold."""
    request = make_request("asr", prompt="a" * 600, hotwords="b" * 100)
    ids = prompts.prompt(request, 1500).sequence.ids_L
    assert len(ids) == 224 + 4 and ids[0] == WORDS.start_of_previous
    assert ids[1:102].tolist() == prompts.text("b" * 100)
    ids = prompts.prompt(replace(request, prompt="", hotwords=("b" * 900,)), 1500).sequence.ids_L
    assert len(ids) == 224 + 4


def test_an_answer_that_ends_early(prompts):
    """Truncated is an answer whose rest no window will have; of a loop one round stays."""
    for tokens, cut in (([at(0), 65, at(2), at(2), 66], False), ([at(0), 65, 66], True)):
        one = replace(written(tokens), cut=True)
        seeking = SYSTEM.seeking(prompts, make_request("asr", language="en"), 3000, True)
        answer = answer_to(prompts, one)
        seeking.take(answer, one, None)
        assert answer.cut == cut
    one = written([at(0), 65, *[66] * 48], unit=1)
    answer = answer_to(prompts, one)
    SYSTEM.seeking(prompts, make_request("asr", language="en"), 3000, True).take(answer, one, None)
    assert answer.text == prompts.tokenizer.decode([65, 66])


def word(text, start, end):
    return SpokenWord(text, [ord(text.strip()[-1])], start, end, 0.5)


def test_words_of_sections():
    """Marks go to their words; a word that is too long is cut; the next window begins after the last word."""
    words = [word(" (", 0.0, 0.1), word("Yes", 0.1, 0.3), word(")", 0.3, 0.4), word(".", 0.4, 0.5)]
    words += [word(" No", 0.5, 5.0), word(" way", 5.0, 5.2)]
    sections = [Section(100.0, 100.5, [0, 1, 2, 3]), Section(100.5, 106.0, [4, 5])]
    spoken = place(sections, words, WORDS.eot, 100.0, 99.0)
    first, second = ([(one.text, one.start, one.end) for one in section.words] for section in sections)
    assert first == [(" (Yes).", 100.1, 100.3)]
    # the usual length of a word is 0.15 s, the longest 0.3
    assert second == [(" No", pytest.approx(104.7), 105.0), (" way", 105.0, 105.2)]
    assert (sections[0].start, sections[0].end) == (100.1, 100.3) and spoken == sections[1].end == 105.2


def test_spelling():
    texts = {1: " a", 2: "b", 3: ",", 4: "-", 5: "\ufffd", 6: "你", 7: "好"}

    def decode(ids):
        return "".join(texts[i] for i in ids).replace("\ufffd\ufffd", "é")

    assert spelled([1, 2, 3, 1, 4, 2, 5, 5], decode, True) == [
        (" ab", [1, 2]),
        (",", [3]),
        (" a", [1]),
        ("-bé", [4, 2, 5, 5]),
    ]
    assert spelled([6, 7, 3], decode, False) == [("你", [6]), ("好", [7]), (",", [3])]
    assert spelled([], decode, True) == []


class Engine:
    """Answers from a script: a section of 10 s in each window, and half of another one."""

    system, cfg = SYSTEM, BASE

    def __init__(self, prompts):
        self.prompts, self.batches = prompts, []

    def asked(self, request):
        self.system.check_request(request, self.cfg)
        return request

    def passes(self, requests):
        return requests

    def windows(self, asked, sampling, rows):
        self.batches.append((len(asked), rows))
        found = []
        for mel_TF, _ in asked:
            seconds = BASE.features.seconds(len(mel_TF))
            loud = 65 + int(np.round(mel_TF.max() * 10))  # something of the sound
            tokens = [at(0), loud, at(10), at(10), 67] if seconds > 10 else [at(0), loud, at(seconds)]
            one = written(tokens)
            answer = answer_to(self.prompts, one)
            answer.end = seconds
            found.append((Response("array", seconds, [answer]), one, None))
        return found


def test_recordings_share_batches(prompts):
    sounds = [(voice(seconds), 16_000) for seconds in (42.0, 5.0, 51.0)]
    requests = [make_request("asr", language="en")]
    engine, told = Engine(prompts), []
    how = {"long": "", "gate": True, "batch_size": 2}
    together = list(respond(engine, sounds, requests, progress=told.append, **how))
    assert engine.batches == [(2, 2)] * 5 + [(1, 1)] * 2  # 5 windows of the first, 1 and 6 of the others
    assert sum(told) == pytest.approx(98)
    spans = [[(s.start, s.end) for s in r.segments] for r in together]
    assert spans == [
        [(0, 10), (10, 20), (20, 30), (30, 40), (40, 42)],
        [(0, 5)],
        [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 51)],
    ]
    for sound, response in zip(sounds, together, strict=True):
        (alone,) = respond(Engine(prompts), [sound], requests, **how)
        assert alone.to_dict() == response.to_dict()


def test_recordings_without_speech_or_sound(prompts, tmp_path):
    quiet = (np.zeros(16_000, np.float32), 16_000)
    sources = [quiet, str(tmp_path / "none.wav"), (voice(3.0), 16_000)]
    engine = Engine(prompts)
    requests = [make_request("asr", language="en")]
    silent, missing, said = respond(engine, sources, requests, long="seek", gate=True)
    assert silent.no_speech and not silent.error and len(silent.segments) == 1
    assert "none.wav" in missing.error and not missing.segments
    assert said.text and engine.batches == [(1, 1)]
    (asked,) = respond(engine, [quiet], requests, long="seek", gate=False)
    assert asked.text


@pytest.mark.parametrize(
    "model, settings, message",
    [
        (BASE, {"long": "sekk"}, "long 'sekk': must be pauses or seek"),
        (
            BASE,
            {"long": "seek", "max_seconds": 20.0},
            "max_seconds 20: seek reads windows of the model's own",
        ),
        (BASE, {"long": "seek", "probabilities": True}, "probabilities: "),
        (preset("tiny"), {"long": "seek"}, "long 'seek': a model of osum splits recordings at pauses"),
    ],
)
def test_what_is_refused(model, settings, message):
    system = system_of(model.model_type)
    engine = SimpleNamespace(system=system, cfg=model, asked=lambda request: request, passes=list)
    with pytest.raises(UserError, match=message) as caught:
        list(respond(engine, [], [make_request("asr")], **settings))
    assert "\n" not in str(caught.value)


def test_one_request_at_a_time(prompts):
    with pytest.raises(UserError, match="2 requests"):
        list(respond(Engine(prompts), [], [make_request("asr"), make_request("srwt")], long="seek"))
