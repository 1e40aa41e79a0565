"""What is heard while sound comes, against the answers to the same samples as recordings."""

import threading

import numpy as np
import pytest

from mindspore_osum.api import OSUM
from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Answer
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.streaming.live import Heard, Live, LiveSettings, listen
from tests.inference.common import small_folder
from tests.speech.voices import row, voice

SHORT = Sampling(max_new_tokens=5)
ASR = [make_request("asr")]
PIECE = 1600


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return OSUM.load(small_folder(tmp_path_factory.mktemp("model") / "small"))


@pytest.fixture(scope="module")
def talk():
    """(wave_N of two utterances of 1.5 s with pauses, where they are)."""
    return row([0.8, voice(1.5), 1.5, voice(1.5, pitch=180.0), 1.5])


def pieces(wave_N):
    return [wave_N[i : i + PIECE] for i in range(0, len(wave_N), PIECE)]


def test_finals_are_the_answers_to_their_samples(model, talk):
    wave_N, places = talk
    heard = list(model.live(pieces(wave_N), task="asr", sampling=SHORT, every=0))
    assert [h.final for h in heard] == [True, True]
    for h, (start, end) in zip(heard, places):
        s = h.segment
        assert start - 0.3 < s.start < start + 0.1 and end - 0.1 < s.end < end + 0.3
        part_N = wave_N[round(s.start * SAMPLE_RATE) : round(s.end * SAMPLE_RATE)]
        assert s.raw == model((part_N, SAMPLE_RATE), task="asr", sampling=SHORT).raw


def test_a_final_comes_at_the_pause_and_not_at_the_end(model, talk):
    """Sample by sample as a person speaks: what is known when."""
    wave_N, places = talk
    live = Live(model.engine, ASR, LiveSettings(every=0), SHORT)
    came = []
    for n, piece_N in enumerate(pieces(wave_N), start=1):
        came += [(n * PIECE / SAMPLE_RATE, h.segment.end) for h in live.push(piece_N)]
    assert len(came) == 2 and not list(live.flush())
    assert all(0.4 < now - end < 1.7 for now, end in came)  # pause, look ahead, blocks of half a second


def test_so_far_grows_and_is_followed_by_its_final(model, talk):
    """Each piece is handed over when the one before has been dealt with, as in real time."""
    wave_N, _ = talk
    live = Live(model.engine, ASR, LiveSettings(every=0.5), SHORT)
    events = []
    for piece_N in pieces(wave_N):
        events += live.push(piece_N)
        if heard := live.so_far():
            events.append(heard)
    finals = [n for n, h in enumerate(events) if h.final]
    assert len(finals) == 2 and not events[0].final
    first = events[: finals[0] + 1]
    assert len({h.segment.start for h in first[:-1]}) == 1
    ends = [h.segment.end for h in first[:-1]]
    assert ends == sorted(ends) and all(b - a >= 0.5 for a, b in zip(ends, ends[1:]))
    part_N = wave_N[round(first[0].segment.start * SAMPLE_RATE) : round(ends[0] * SAMPLE_RATE)]
    assert first[0].segment.raw == model((part_N, SAMPLE_RATE), sampling=SHORT).raw


def test_memory_is_bounded(model):
    """Of a minute of silence nothing is kept."""
    live = Live(model.engine, ASR)
    for _ in range(60):
        assert not list(live.push(np.zeros(SAMPLE_RATE, np.float32)))
    assert len(live._wave_N) < 3 * SAMPLE_RATE and live.so_far() is None


def test_long_speech_is_cut(model):
    wave_N = voice(7.0)
    found = list(model.live(pieces(wave_N), sampling=SHORT, max_seconds=3, every=0))
    assert len(found) > 1 and all(h.segment.seconds <= 3 for h in found)


def test_so_far_is_never_longer_than_an_utterance(model):
    """What is too long is cut a little later, when what follows is known."""
    live = Live(model.engine, ASR, LiveSettings(every=0.4, max_seconds=2), SHORT)
    heard = []
    for piece_N in pieces(voice(4.0)):
        heard += live.push(piece_N)
        heard += filter(None, [live.so_far()])
    lengths = [h.segment.seconds for h in heard if not h.final]
    assert len(lengths) > 4 and max(lengths) <= 2 and not any(h.segment.error for h in heard)


def test_hotwords_are_in_all_requests_and_notes_in_the_next_final(model, talk, monkeypatch):
    asked, notes, answer = [], ["wire"], Live._answer
    monkeypatch.setattr(Live, "_answer", lambda live, s, r: asked.extend(r) or answer(live, s, r))
    requests = [make_request("asr", hotwords="Osum")]
    live = Live(model.engine, requests, LiveSettings(every=0.5), SHORT, notes)
    heard = []
    for piece_N in pieces(talk[0]):
        heard += [*live.push(piece_N), *filter(None, [live.so_far()])]
    finals = [h.to_dict() for h in heard if h.final]
    assert len(heard) > len(finals) == 2 and {r.hotwords for r in asked} == {("Osum",)}
    assert "wire" in finals[0]["warnings"] and "wire" not in finals[1]["warnings"] and not notes
    assert "confidence" not in finals[0]


def test_confidence_is_in_what_is_written():
    sure = Answer(0.0, 1.0, "hello", confidence=0.5, word_confidence=[("hello", 0.5)])
    written = Heard(True, sure).to_dict()
    assert (written["confidence"], written["word_confidence"]) == (0.5, [("hello", 0.5)])


def test_what_was_heard_comes_before_what_is_wrong(model, talk):
    def broken():
        yield from pieces(talk[0])
        raise UserError("the cable came off")

    heard = []
    with pytest.raises(UserError, match="the cable came off"):
        for h in model.live(broken(), sampling=SHORT, every=0):
            heard.append(h)
    assert [h.final for h in heard] == [True, True]


def test_stop_ends_an_endless_stream(model, talk):
    stop, given = threading.Event(), threading.Event()

    def endless():
        yield from pieces(talk[0][: 2 * SAMPLE_RATE])
        given.set()
        while True:
            stop.wait(1)
            yield np.zeros(PIECE, np.float32)

    live = Live(model.engine, ASR, LiveSettings(every=0), SHORT)
    threading.Thread(target=lambda: (given.wait(), stop.set()), daemon=True).start()
    assert [h.final for h in listen(live, endless(), stop)] == [True]


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"every": -1}, "every -1"), ({"pause": 0}, "pause 0: must"), ({"max_seconds": 99}, "max_seconds 99")],
)
def test_impossible_settings(model, setting, message):
    with pytest.raises(UserError, match=message):
        model.live([], **setting)
