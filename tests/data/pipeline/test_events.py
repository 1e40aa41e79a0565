"""`osum data events`: what was written is the speech, divided, and the event, to the sample."""

import numpy as np
import pytest
import soundfile

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.pipeline.making import MANIFEST
from mindspore_osum.tasks import parse_answer
from tests.data.formats.tars import sample, sound, write_tar
from tests.data.pipeline.conftest import noise_like

WORDS = [["one", 0.1, 0.3], ["two,", 0.35, 0.55], ["three", 0.6, 0.9]]
SRWT = "<0.10>one<0.30><0.35>two,<0.55><0.60>three<0.90>"
SPEECH = [
    {"key": f"s{n}", "wav": f"s{n}.wav", "txt": "one two, three", "task": "asr", "extra": {"words": WORDS}}
    for n in range(12)
]
LABELS = ("COUGH", "laughter", "THROAT CLEARING")
EVENTS = [
    {"key": f"e{n}", "wav": f"e{n}.wav", "txt": f"<{label}>", "task": "<CAPTION>"}
    for n, label in enumerate(LABELS)
]


@pytest.fixture
def events(tmp_path, write_set):
    """Recordings of three events at 11,025 Hz."""
    for n in range(3):
        soundfile.write(tmp_path / f"e{n}.wav", noise_like(0.3 + 0.1 * n, 11025, 50 + n, 0.3), 11025)
    return write_set("events.jsonl", EVENTS)


def made(data, tmp_path, path, events, *options, out="o"):
    status, text, err = data("events", path, "--events", events, "--output", tmp_path / out, *options)
    assert status == 0, err
    found, problems = read_manifest(tmp_path / out / MANIFEST)
    assert not problems and f"{len(found)} utterances with an event, 0 errors" in text
    return found


def parts(tmp_path, utt):
    """Before, in and after the event: samples of what was written, and the speech with its rate."""
    (about,) = utt.extra["events"]
    mixed, rate = soundfile.read(utt.wav)
    speech, own = soundfile.read(tmp_path / f"{utt.key.removesuffix('-event')}.wav")
    assert own == rate
    first, last = round(about["start"] * rate), round(about["end"] * rate)
    assert len(mixed) == len(speech) + last - first
    return mixed[:first], mixed[first:last], mixed[last:], speech, rate


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_times_of_events_are_those_of_their_samples(tmp_path, write_set, data, events, rate):
    found = made(data, tmp_path, write_set("set.jsonl", SPEECH, rate), events, "--level", -6, 6)
    positions, kinds, levels = set(), set(), []
    for utt in found:
        (about,) = utt.extra["events"]
        before, event, after, speech, _ = parts(tmp_path, utt)
        loud = (
            1 / np.abs(speech).max() if max(np.abs(before).max(initial=0), np.abs(event).max()) > 0.999 else 1
        )
        together = np.concatenate([before, after])
        scale = (together @ speech) / (speech @ speech)
        assert scale == pytest.approx(1, abs=1e-3) or loud != 1
        assert np.abs(together - scale * speech).max() < 2**-14  # nothing of it is lost or moved
        kinds.add(about["event"])
        seconds = 0.3 + 0.1 * int(about["key"][1])
        assert len(event) / rate == pytest.approx(seconds, abs=2 / rate)
        level = 10 * np.log10(np.mean(event**2) / np.mean((scale * speech) ** 2))
        assert level == pytest.approx(about["level_db"], abs=0.15)  # without what fades and 16 bit take
        levels.append(level)
        shape = np.interp(
            np.arange(len(event)) / rate, np.arange(round(seconds * 11025)) / 11025, _wave(tmp_path, about)
        )
        assert np.corrcoef(shape, event)[0, 1] > (0.9 if rate > 11025 else 0.5)
        positions.add(sum(w[1] >= about["start"] for w in utt.extra["words"]))
    assert kinds == {"COUGH", "LAUGH", "THROAT CLEARING"} and positions >= {0, 1, 2}
    assert max(levels) - min(levels) > 3


def _wave(tmp_path, about):
    return soundfile.read(tmp_path / f"{about['key']}.wav")[0]


def test_labels_are_at_the_end_or_at_their_word(tmp_path, write_set, data, events):
    lines = SPEECH[:6] + [{**SPEECH[n], "txt": SRWT, "task": "srwt", "extra": {}} for n in range(6, 12)]
    path = write_set("set.jsonl", lines)
    at_end = made(data, tmp_path, path, events, "--seed", 3)
    at_word = made(data, tmp_path, path, events, "--seed", 3, "--tag", "word", out="w")
    for end, word in zip(at_end, at_word, strict=True):
        (about,) = end.extra["events"]
        label, moved = about["event"], end.extra["words"]
        assert end.task == word.task == "<TRANSCRIBE> <CAPTION>" and end.extra == word.extra
        assert end.txt == f"one two, three<{label}>"
        before = [w for w, s, e in moved if e <= about["start"] + 1e-6]
        assert word.txt == " ".join(before) + f"<{label}>" + " ".join(w for w, *_ in moved[len(before) :])
        length = about["end"] - about["start"]
        for n, (w, *times) in enumerate(moved):
            shift = 0 if n < len(before) else length
            assert [w, *times] == [WORDS[n][0], *(pytest.approx(t + shift, abs=1e-4) for t in WORDS[n][1:])]
        for utt in (end, word):
            answer = parse_answer(utt.txt, utt.task)
            assert answer.labels == {"event": label} and answer.text.split() == ["one", "two,", "three"]
    assert len({utt.txt.partition("<")[0] for utt in at_word}) > 2
    assert data("validate", tmp_path / "w" / MANIFEST, tmp_path / "o" / MANIFEST)[0] == 0


def test_without_word_times_an_event_is_at_a_quiet_moment(tmp_path, write_set, data, events):
    """Speech with short pauses: all events are in these or at its ends, and anywhere in the recording."""
    pauses = np.arange(0.5, 4, 0.5)
    for n in range(20):
        wave = noise_like(4.0, 16000, n, 0.2) + 0.05 * np.sin(np.arange(64000))
        for pause in pauses:
            wave[round(pause * 16000) : round((pause + 0.06) * 16000)] = 1e-4
        soundfile.write(tmp_path / f"s{n}.wav", wave, 16000)
    lines = [{"key": f"s{n}", "wav": f"s{n}.wav", "txt": "天 x", "task": "asr"} for n in range(20)]
    found = made(data, tmp_path, write_set("set.jsonl", lines), events)
    starts = np.array([utt.extra["events"][0]["start"] for utt in found])
    inside = [min(abs(start - pause - 0.03) for pause in pauses) <= 0.03 for start in starts]
    assert sum(inside) >= 17 and len(set(starts // 0.5)) >= 5
    for utt in found:
        before, _, after, speech, _ = parts(tmp_path, utt)
        assert np.abs(np.concatenate([before, after]) - speech).max() < 2**-14
        assert utt.txt == f"天x<{utt.extra['events'][0]['event']}>" and "words" not in utt.extra


def test_shards_and_seeds(tmp_path, data, write_set, events):
    write_tar(tmp_path / "s.tar", [*sample("a", "x y"), *sample("b", "z", audio=sound(0.7, 5))])
    out = {
        seed: made(data, tmp_path, tmp_path / "s.tar", events, "--seed", seed, out=f"o{seed}")
        for seed in (1, 2)
    }
    assert [u.key for u in out[1]] == ["a-event", "b-event"]
    assert [u.extra for u in out[1]] != [u.extra for u in out[2]]
    again = made(data, tmp_path, tmp_path / "s.tar", events, "--seed", 1, out="again")
    assert [u.extra for u in out[1]] == [u.extra for u in again]


@pytest.mark.parametrize(
    ("speech", "event", "options", "says"),
    [
        ({}, {"task": "asr", "txt": "hm"}, [], "events.jsonl:1: task asr: no vocal event; write <CAPTION>"),
        ({}, {"task": "ved", "txt": "hm<COUGH>"}, [], "events.jsonl:1: words beside the event, 'hm'"),
        ({}, {"txt": "<BURP>"}, [], "events.jsonl:1: no event in '<BURP>'"),
        ({}, {"wav": "zero.wav"}, [], "events.jsonl:1: the recording of the event is silent"),
        ({}, {"wav": "long.wav"}, [], "events.jsonl:1: 21.00 s; an event has at most 20 s"),
        ({"wav": "zero.wav"}, {}, [], "set.jsonl:1: the recording is silent"),
        ({"task": "<GENDER>", "txt": "<MALE>"}, {}, [], "set.jsonl:1: no transcript in '<MALE>'"),
        ({"extra": {"words": "x"}}, {}, [], "set.jsonl:1: extra.words is no list of [word, start, end]"),
        ({"extra": {"words": [["un", 0.5, 0.2]]}}, {}, [], "extra.words is no list of [word, start, end]"),
        ({"extra": {"words": [["un", -1, 0.2]]}}, {}, [], "extra.words is no list of [word, start, end]"),
        ({"extra": {"words": [["un", 0, 99]]}}, {}, [], "a word ends at 99 s, the recording at 1.00 s"),
        ({"extra": {"words": [["uno", 0, 1]]}}, {}, ["--tag", "word"], "the aligner has 'uno' where"),
        ({}, {}, ["--level", "3", "-3"], "--level 3 -3: the lowest and the highest power"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, write_set, data, speech, event, options, says):
    soundfile.write(tmp_path / "zero.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "long.wav", np.ones(21 * 1000) / 9, 1000)
    path = write_set("set.jsonl", [SPEECH[0] | speech])
    events = write_set("events.jsonl", [EVENTS[0] | event])
    status, _, err = data("events", path, "--events", events, "--output", tmp_path / "o", *options)
    assert status == 1 and says in err and err.count("\n") == 1
    assert not (tmp_path / "o").exists()  # so that the next command may have the folder
