"""The speech world's plans: who says what and how, and that splits and groups are kept apart."""

import re
from collections import Counter, defaultdict
from itertools import combinations

import contents
import grammar
import plan as planning
import pytest
import questions
import voices

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import LABEL_SETS

EMOTIONS, STYLES, EVENTS = (LABEL_SETS[tag].values for tag in ("emotion", "style", "caption"))
LABELLED = {"feeling": (contents.FEELINGS, "emotion"), "style": (contents.STYLES, "style")}


def every_line(plans) -> list:
    return [line for lines in plans.values() for line in lines]


def is_digits(line) -> bool:
    return set(grammar.words(line.text, line.lang)) <= set(grammar.DIGITS[line.lang])


def share(some, of) -> float:
    return sum(1 for _ in some) / len(of)


# splits


def test_splits_share_no_sentence_and_no_speaker(plans):
    texts = {split: {line.text for line in lines} for split, lines in plans.items()}
    speakers = {split: {line.speaker.name for line in lines} for split, lines in plans.items()}
    variants = {
        split: {line.speaker.variant.split("\n", 2)[2] for line in lines} for split, lines in plans.items()
    }
    for a, b in combinations(plans, 2):
        assert not texts[a] & texts[b]
        assert not speakers[a] & speakers[b]
        assert not variants[a] & variants[b]  # not the same voice under two names
    for split, lines in plans.items():
        assert len(speakers[split]) == 6 * voices.SPEAKERS[split]  # all are heard
        groups = {(line.lang, line.speaker.gender, line.speaker.age) for line in lines}
        assert len(groups) == 2 * 2 * 3
        accents = {line.accent for line in lines}
        assert accents == set(voices.ACCENTS["en"]) | set(voices.ACCENTS["zh"])
        assert all(line.accent in voices.ACCENTS[line.lang] for line in lines)
    assert len(texts["train"]) > 5000


def test_questions_and_commands_of_a_split_hash_to_it(plans):
    for split, lines in plans.items():
        assert all(grammar.split_of(line.text, 1) == split for line in lines)


def test_unseen_sentences_are_made_of_words_seen_in_training(plans):
    """Those of questions now and then, those of all others often."""
    seen = Counter(word for line in plans["train"] for word in grammar.words(line.text, line.lang))
    for line in plans["valid"] + plans["test"]:
        rarest = min(seen[word] for word in grammar.words(line.text, line.lang))
        assert rarest >= (1 if line.kind == "question" else 10), line.text
    every = [source.vocabulary(lang) for source in (grammar, contents) for lang in grammar.LANGUAGES]
    assert set(seen) <= set().union(*every)


def test_a_plan_depends_on_its_seed_alone_and_grows_at_its_end(plans):
    assert planning.plan("test", 50, seed=1) == plans["test"][:50]
    assert planning.plan("test", 50, seed=2) != plans["test"][:50]


def test_a_seed_without_sentences_for_a_split_is_refused(monkeypatch):
    monkeypatch.setattr(grammar, "split_of", lambda text, seed: "train")
    with pytest.raises(UserError, match="--seed 1 gives no valid .*; take another"):
        planning.plan("valid", 1, seed=1)


# labels


def test_kinds_and_events_have_their_shares(plans):
    lines = plans["train"]
    for kind, expected in planning.KINDS.items():
        assert share((line for line in lines if line.kind == kind), lines) == pytest.approx(
            expected, abs=0.02
        )
    assert not any(line.event for line in lines if line.kind == "question")
    others = [line for line in lines if line.kind != "question"]
    assert share((line for line in others if line.event), others) == pytest.approx(0.35, abs=0.02)
    sounds = [line for line in others if line.event]
    for event in EVENTS:
        assert share((line for line in sounds if line.event == event), sounds) == pytest.approx(
            1 / 8, abs=0.02
        )
    assert share((line for line in sounds if line.event_first), sounds) == pytest.approx(0.5, abs=0.03)
    assert {line.event for line in lines} - {""} == set(EVENTS)


def test_every_label_is_as_frequent_as_any_other_and_stands_in_every_part(plans):
    for split, lines in plans.items():
        for kind, (_, field) in LABELLED.items():
            some = [line for line in lines if line.kind == kind]
            found = Counter(getattr(line, field) for line in some)
            assert set(found) == set(EMOTIONS if field == "emotion" else STYLES)
            if split == "train":
                assert all(count / len(some) == pytest.approx(1 / 8, abs=0.02) for count in found.values())
        genders = Counter((line.speaker.gender, line.speaker.age) for line in lines)
        assert min(genders.values()) > 0.1 * len(lines)


def test_what_carries_no_label_is_neutral_and_everyday(plans):
    for line in every_line(plans):
        if line.kind != "feeling":
            assert line.emotion == "NEUTRAL"
        if line.kind != "style":
            assert line.style == ("其他" if is_digits(line) else "日常口语")
        assert bool(line.answer) == (line.kind == "question")


def test_the_words_are_those_of_the_label(plans):
    patterns = defaultdict(list)
    for kind, (table, _) in LABELLED.items():
        for lang, labels in table.items():
            for label, templates in labels.items():
                forms = (
                    "".join(r"[\w ]+" if part.startswith("{") else part for part in re.split(r"(\{\w+\})", t))
                    for t in templates
                )
                patterns[kind, lang, label] = re.compile("|".join(f"({form})" for form in forms))
    for line in every_line(plans):
        if line.kind in LABELLED:
            label = getattr(line, LABELLED[line.kind][1])
            assert patterns[line.kind, line.lang, label].fullmatch(line.text), line


def test_answers_are_the_facts(plans):
    known = {lang: dict(questions.facts(lang)) for lang in grammar.LANGUAGES}
    asked = [line for line in every_line(plans) if line.kind == "question"]
    assert asked and all(known[line.lang][line.text] == line.answer for line in asked)


def test_a_fifth_of_the_commands_are_digit_strings(plans):
    for lang in grammar.LANGUAGES:
        lines = [line for line in plans["train"] if line.lang == lang and line.kind == "command"]
        digits = [line for line in lines if is_digits(line)]
        assert {len(grammar.words(line.text, lang)) for line in digits} == set(grammar.DIGIT_LENGTHS)
        assert 0.17 < len(digits) / len(lines) < 0.23


# how it is said


def test_feelings_and_styles_are_in_the_prosody(plans):
    def mean(field: str, kind: str, label: str) -> float:
        of = LABELLED[kind][1]
        some = [
            getattr(line, field)
            for line in plans["train"]
            if line.kind == kind and getattr(line, of) == label
        ]
        return sum(some) / len(some)

    assert mean("rate", "feeling", "SAD") < 0.9 * mean("rate", "feeling", "NEUTRAL")
    assert mean("rate", "feeling", "FEAR") > 1.1 * mean("rate", "feeling", "NEUTRAL")
    assert mean("tones", "feeling", "SAD") + 20 < mean("tones", "feeling", "NEUTRAL")
    assert mean("tones", "feeling", "SURPRISE") > mean("tones", "feeling", "HAPPY") > 60
    assert mean("pitch", "feeling", "SAD") + 4 < mean("pitch", "feeling", "HAPPY")
    assert mean("rate", "style", "诗歌散文") < 0.9 * mean("rate", "style", "日常口语")
    assert mean("rate", "style", "新闻科普") > 1.05 * mean("rate", "style", "日常口语")
    assert all(0 <= value <= 99 for line in plans["train"] for value in (line.pitch, line.tones))


def test_octaves_of_espeak():
    """50 steps of its scale double."""
    assert [planning._octaves(factor) for factor in (0.5, 1, 2, 4, 0.1)] == [0, 50, 99, 99, 0]


# speakers


def measures(speaker: voices.Speaker) -> dict[str, float]:
    """Pitch (Hz), mean formant (percent of the voice's own) and manner, read from the variant's text."""
    table = {}
    formants = []
    for name, *values in map(str.split, speaker.variant.splitlines()):
        if name == "formant" and values[0] != "0":
            formants.append(float(values[1]))
        elif name in ("pitch", "flutter", "roughness", "voicing", "breath"):
            table[name] = float(values[0])
    assert len(formants) == 8
    return table | {"tract": sum(formants) / 8}


def spread(name: str, gender: str, age: str) -> tuple[float, float]:
    """Smallest and largest value in a group, of all splits."""
    group = [s for split in voices.SPEAKERS for s in voices.speakers(split, gender, age)]
    found = [measures(speaker)[name] for speaker in group]
    return min(found), max(found)


def test_speakers_are_labelled_as_their_group_and_never_change():
    for split, count in voices.SPEAKERS.items():
        for gender in voices.GENDERS:
            for age in voices.AGES:
                group = voices.speakers(split, gender, age)
                assert len({s.name for s in group}) == len({s.variant for s in group}) == count
                assert all((s.gender, s.age) == (gender, age) for s in group)
                assert group[2] == voices.speaker(split, gender, age, 2)
                assert all(f"gender {gender.lower()}\n" in s.variant for s in group)


def test_pitch_tells_gender_and_children():
    order = [("MALE", "ADULT"), ("FEMALE", "ADULT"), ("MALE", "CHILD"), ("FEMALE", "CHILD")]
    for below, above in zip(order, order[1:], strict=False):
        assert spread("pitch", *below)[1] < spread("pitch", *above)[0], (below, above)
    for gender in voices.GENDERS:  # old people speak as high as adults
        low, high = spread("pitch", gender, "OLD")
        assert (
            voices.PITCH[gender, "ADULT"][0] <= round(low) and round(high) <= voices.PITCH[gender, "ADULT"][1]
        )


def test_formants_tell_men_women_and_children():
    for age in ("ADULT", "OLD"):
        assert spread("tract", "MALE", age)[1] < spread("tract", "FEMALE", age)[0]
        assert spread("tract", "FEMALE", age)[1] < min(spread("tract", g, "CHILD")[0] for g in voices.GENDERS)


def test_the_manner_tells_old_people():
    for gender in voices.GENDERS:
        for name, sign in (("flutter", 1), ("roughness", 1), ("breath", 1), ("voicing", -1)):
            old = [sign * value for value in spread(name, gender, "OLD")]
            for age in ("CHILD", "ADULT"):
                assert max(sign * value for value in spread(name, gender, age)) < min(old), (
                    name,
                    gender,
                    age,
                )


def test_old_people_speak_slowly(plans):
    """Among sentences of the same prosody."""
    rates = defaultdict(list)
    for line in plans["train"]:
        if line.kind in ("command", "question"):
            rates[line.speaker.age].append(line.rate)
    means = {age: sum(some) / len(some) for age, some in rates.items()}
    assert means["OLD"] < 0.9 * min(means["ADULT"], means["CHILD"])
