"""What the speech world sounds like: Mandarin, voices, times of words, sounds beside them, noise, level."""

import random
import re
import subprocess
from dataclasses import replace

import contents
import espeak
import generate
import grammar
import numpy as np
import pytest
import voices

from mindspore_osum.errors import UserError
from tests.examples.common import loud

RATE = generate.RATE
SPEAKER = voices.speaker("train", "FEMALE", "ADULT", 0)
TOLD_TO = 0.04  # seconds; how exactly word times are checked


def clean(line, **changes):
    """The line with nothing beside its words."""
    return replace(line, event="", **changes)


# Mandarin


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("从银行到车站怎么走", "cong2 yin2 hang2 dao4 che1 zhan4 zen3 me5 zou3"),
        ("播放音乐", "bo1 fang4 yin1 yue4"),
        ("一点叫我睡觉", "yi1 dian3 jiao4 wo3 shui4 jiao4"),
        ("把厨房的空调打开", "ba3 chu2 fang2 de5 kong1 tiao2 da3 kai1"),
        ("三五一", "san1 wu3 yi1"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_readings(text, reading):
    assert grammar.pinyin(text) == reading
    assert (
        grammar.pinyin(text, generate.READINGS) == reading
    )  # those of feelings and questions change nothing


@pytest.mark.usefixtures("installed")
def test_every_chinese_command_has_a_syllable_per_character():
    rng = random.Random(0)
    for _ in range(500):
        text = grammar.sentence("zh", rng)
        assert re.fullmatch(r"[a-z]+[1-5]( [a-z]+[1-5])*", grammar.pinyin(text)), text


@pytest.mark.usefixtures("installed")
def test_a_character_without_a_reading_is_refused():
    with pytest.raises(UserError, match="pinyin"):
        grammar.pinyin("你好ok")


@pytest.mark.usefixtures("installed")
def test_every_syllable_is_spoken_as_mandarin():
    characters = set(grammar.vocabulary("zh")) | set(contents.vocabulary("zh"))
    syllables = sorted({grammar.pinyin(char, generate.READINGS) for char in characters})
    command = ["espeak-ng", "-v", "cmn-latn-pinyin", "-q", "-x"]
    done = subprocess.run(command, input="\n\n".join(syllables), capture_output=True, text=True, check=True)
    said = done.stdout.split()
    assert len(said) == len(syllables)
    for syllable, phonemes in zip(syllables, said):
        tone = {"1": "55", "2": "35", "3": "214", "4": "51", "5": "11"}[syllable[-1]]
        assert re.fullmatch(rf"\D+{tone}[nN]?(_\|)?", phonemes), f"{syllable} is spoken {phonemes}"


def pitch(wave: np.ndarray, at: int) -> float:
    """Fundamental frequency (Hz) of 50 ms at 22.05 kHz, by autocorrelation between 60 and 500 Hz."""
    part = wave[at : at + 1102].astype(float)
    correlation = np.correlate(part, part, "full")[len(part) - 1 :]
    return 22050 / (44 + np.argmax(correlation[44:367]))


@pytest.mark.parametrize("gender", voices.GENDERS)
def test_tones_are_heard(data, gender):
    change = {}
    for tone in "124":
        speaker = voices.speaker("test", gender, "ADULT", 0)
        wave, rate, _ = espeak.speak(f"ma{tone}", "cmn-latn-pinyin", speaker, 130, 50, 50, data)
        assert rate == 22050
        places = loud(wave, 0.2)
        last = places[-1] - 1102
        early = places[0] + (last - places[0]) * 2 // 7  # after the consonant
        change[tone] = pitch(wave, last) / pitch(wave, early)
    assert change["2"] > 1.03 + abs(change["1"] - 1)  # rising
    assert change["1"] == pytest.approx(1, abs=0.04)  # level
    assert change["4"] < 0.93  # falling


# the synthesiser


def speak(text: str, data, accent="en-us", speaker=SPEAKER, rate=150, pitch=50, tones=50):
    return espeak.speak(text, accent, speaker, rate, pitch, tones, data)


@pytest.mark.parametrize(
    ("accent", "variant"), [("en-us", "f3"), ("en-gb-scotland", "Mike"), ("cmn-latn-pinyin", "belinda")]
)
def test_the_library_says_what_the_program_says(accent, variant, data, installed):
    """With links to its data, a speaker's own file and word times nothing is said otherwise.

    The program alone ends with a pause.
    """
    text = (espeak.installation()[1] / "voices" / "!v" / variant).read_text()
    voice = f"{accent}+{variant}"
    command = ["espeak-ng", "--stdout", "-v", voice, "-s150", "-p40", "ni3 hao3 five"]
    program = subprocess.run(command, capture_output=True, check=True).stdout
    speaker = voices.Speaker(variant, "FEMALE", "ADULT", text)
    wave, _, _ = speak("ni3 hao3 five", data, accent, speaker, pitch=40)
    said = np.frombuffer(program[44:], "<i2")  # 44 bytes of RIFF header
    assert np.array_equal(wave, said[: len(wave)])
    assert np.abs(said[len(wave) :]).max() < 0.01 * np.abs(wave).max()


def test_what_is_said_before_changes_nothing(data):
    text = "ma1 ma2 ma3"
    first = speak(text, data, "cmn-latn-pinyin")
    speak("hello", data, "en-029", voices.speaker("train", "MALE", "OLD", 1), 200, 70, 90)
    again = speak(text, data, "cmn-latn-pinyin")
    assert np.array_equal(first[0], again[0]) and first[1:] == again[1:]


def test_an_unknown_voice_is_an_error(data):
    with pytest.raises(UserError, match="espeak-ng said nothing: no-such"):
        speak("five", data, "no-such")


def test_groups_are_heard_in_their_order(data):
    """The pitch of a level tone; of old people it wavers too much to be measured so."""
    heard = []
    for gender, age in (("MALE", "ADULT"), ("FEMALE", "ADULT"), ("MALE", "CHILD"), ("FEMALE", "CHILD")):
        group = [voices.speaker(split, gender, age, 0) for split in voices.SPEAKERS]
        waves = [speak("ma1", data, "cmn-latn-pinyin", speaker, 130)[0] for speaker in group]
        heard.append([pitch(wave, int(np.median(loud(wave, 0.2)))) for wave in waves])
    for below, above in zip(heard, heard[1:], strict=False):
        assert max(below) < min(above), heard


def test_old_people_are_heard_to_be_rougher(data):
    """A level tone of theirs changes more from one period to the next."""

    def unsteadiness(age: str) -> float:
        wave = speak("ma1", data, "cmn-latn-pinyin", voices.speaker("test", "MALE", age, 0), 130)[0]
        sound = wave[loud(wave, 0.2)[0] :][2000:6000].astype(float)
        period = 60 + np.argmax([np.dot(sound[:-p], sound[p:]) / (len(sound) - p) for p in range(60, 400)])
        return 1 - np.dot(sound[:-period], sound[period:]) / np.dot(sound, sound)

    assert unsteadiness("OLD") > 2 * unsteadiness("ADULT")


# times of words


@pytest.mark.parametrize(
    ("accent", "text"),
    [
        ("en-us", "turn on the kitchen light please"),
        ("en-gb-scotland", "my brother left me alone tonight"),
        ("en", "one two three four five"),
        ("cmn-latn-pinyin", "an3 fang2 san1 wu3 yi1 de5 men2"),
    ],
)
def test_a_word_starts_where_the_rest_of_the_text_is_left(accent, text, data):
    """Independent of what espeak-ng tells: how much shorter it is without the words before."""
    wave, rate, starts = speak(text, data, accent)
    words = text.split()
    assert len(starts) == len(words)
    for number, start in enumerate(starts):
        rest, _, _ = speak(" ".join(words[number:]), data, accent)
        assert start / rate == pytest.approx((len(wave) - len(rest)) / rate, abs=TOLD_TO), words[number]


def test_words_said_as_one_share_its_time_by_letters():
    """espeak-ng tells no start of "the" in "on the": of 7 characters up to the next word 3 come before."""
    told = np.array([[0, 0], [5, 1000], [12, 1700]])  # character, sample
    assert espeak.word_starts("turn on the light", told, 3000) == [0, 1000, 1300, 1700]
    assert espeak.word_starts("turn on the", told[:2], 3000) == [0, 1000, 2000]  # up to the end


def test_a_text_without_a_start_is_an_error():
    with pytest.raises(UserError, match="did not report where 'turn on' starts"):
        espeak.word_starts("turn on", np.array([[5, 1000]]), 3000)


def test_times_lie_in_the_recording_and_follow_each_other(plans, data):
    for line in plans["train"][:24]:
        recording = generate.render(line, 1, data)
        words, starts, ends = zip(*recording.times)
        assert list(words) == grammar.words(line.text, line.lang)
        assert starts[1:] == ends[:-1] and np.all(np.diff([*starts, ends[-1]]) > 0), line
        assert 0.05 < starts[0] and ends[-1] <= len(recording.wave) / RATE - 0.05


def test_words_are_loud_and_what_is_before_and_after_them_is_not(plans, data):
    """The first word starts, and the last ends, where the energy says so."""
    for line in map(clean, plans["test"][:12]):
        recording = generate.render(line, 1, data)
        places = loud(recording.wave, 0.1) / RATE
        assert places[0] == pytest.approx(recording.times[0][1], abs=0.12), line
        assert places[-1] == pytest.approx(recording.times[-1][2], abs=0.15), line


@pytest.mark.parametrize("event", ["LAUGH", "COUGH", "SCREAMING"])
def test_a_sound_before_the_words_shifts_their_times_and_one_after_does_not(event, plans, data):
    line = next(line for line in plans["test"] if not line.event and len(line.text) > 20)
    plain = generate.render(line, 1, data)
    before = generate.render(replace(line, event=event, event_first=True), 1, data)
    after = generate.render(replace(line, event=event, event_first=False), 1, data)
    shift = (len(before.wave) - len(plain.wave)) / RATE
    assert 0.4 < shift < 0.8 and len(before.wave) == len(after.wave)
    assert after.times == plain.times
    for word, shifted in zip(plain.times, before.times):
        assert shifted == (word[0], pytest.approx(word[1] + shift), pytest.approx(word[2] + shift))
    first, last = round(before.times[0][1] * RATE), round(plain.times[-1][2] * RATE)
    for recording, sound in ((before, slice(0, first)), (after, slice(last, None))):
        peak = np.abs(recording.wave.astype(float)).max()
        assert np.abs(recording.wave[sound].astype(float)).max() > 0.3 * peak
    assert np.abs(plain.wave[:first].astype(float)).max() > 0  # noise is everywhere


# length, noise and level


def test_recordings_are_of_a_bounded_length(plans, data):
    for line in plans["valid"][:16]:
        seconds = len(generate.render(line, 1, data).wave) / RATE
        assert 1.0 <= seconds <= (4.1 if line.event else 3.2)


def test_too_long_a_sentence_is_read_faster_or_refused(plans, data):
    text = "turn on the kitchen light please "
    line = clean(plans["train"][0], lang="en", accent="en-us", text=(2 * text).strip(), rate=130)
    assert len(generate.say(line, 130, data)[0]) > generate.LONGEST
    recording = generate.render(line, 1, data)
    assert generate.SHORTEST <= len(recording.wave) <= generate.LONGEST
    assert recording.times[-1][2] < len(recording.wave) / RATE
    with pytest.raises(UserError, match="is longer than 3.2 s"):
        generate.render(replace(line, text=(6 * text).strip()), 1, data)


def test_a_short_word_is_put_somewhere_in_a_second(plans, data):
    line = clean(plans["train"][0], lang="en", accent="en-us", text="one", rate=200)
    places = set()
    for index in range(6):
        recording = generate.render(replace(line, index=index), 1, data)
        assert len(recording.wave) == RATE
        [(_, start, end)] = recording.times
        middle = recording.wave[round(start * RATE) : round(end * RATE)].astype(float)
        assert middle.std() > 0.9 * recording.wave.astype(float).std()
        places.add(start)
    assert len(places) > 1


@pytest.mark.parametrize("split", grammar.SPLITS)
def test_noise_and_level_are_those_of_the_split(split):
    """Measured in a second of silence beside a second of tone."""
    wave = np.concatenate([np.sin(np.arange(RATE) * 0.3), np.zeros(RATE)]).astype(np.float32)
    ratios, peaks, colours = [], [], []
    for seed in range(150):
        out = generate._record_over_noise(wave, split, np.random.default_rng(seed)).astype(float)
        assert len(out) == len(wave)
        silence = out[RATE:]
        power = out[:RATE].var() - silence.var()
        ratios.append(10 * np.log10(power / 2 / silence.var()))  # / 2: half of the wave is silent
        peaks.append(20 * np.log10(np.abs(out).max() / 32767))
        colours.append(np.corrcoef(silence[:-1], silence[1:])[0, 1])
    for found, (low, high), error in (
        (ratios, generate.NOISE_DB[split], 0.7),
        (peaks, generate.PEAK_DB[split], 0.1),
    ):
        assert low - error < min(found) < low + 2 and high - 2 < max(found) < high + error
    assert min(colours) < 0.2 and max(colours) > 0.85  # white to rumble


def test_levels_of_recordings(plans, data):
    for line in plans["test"][:6]:
        peak = np.abs(generate.render(line, 1, data).wave.astype(int)).max() / 32767
        assert 0.31 < peak < 0.71  # -10 to -3 dB


def test_the_seed_decides_sound_and_noise(plans, data):
    line = next(line for line in plans["test"] if line.event)
    first, again, other = (generate.render(line, seed, data).wave for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
