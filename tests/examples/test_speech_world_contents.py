"""The speech world's sentences of feeling and style and its questions: sizes, labels, facts, readings."""

import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from mindspore_osum.tasks import LABEL_SETS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "speech_world"))
import contents  # noqa: E402
import grammar  # noqa: E402
import questions  # noqa: E402

LANGUAGES = grammar.LANGUAGES
LENGTHS = {"en": (2, 8), "zh": (3, 10)}  # words, characters
NEW_UNITS = 160  # beside the vocabulary of the commands
TABLES = {"emotion": contents.FEELINGS, "style": contents.STYLES}
DRAW = {"emotion": contents.feeling, "style": contents.styled}


def every(table: dict, lang: str, label: str) -> set[str]:
    return {text for template in table[lang][label] for text in contents.sentences(template, lang)}


def pinyin(text: str) -> str:
    return grammar.pinyin(text, grammar.READINGS | contents.READINGS)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("tag", TABLES)
def test_every_label_has_enough_sentences(tag, lang):
    table = TABLES[tag]
    assert tuple(table[lang]) == LABEL_SETS[tag].values
    for label, templates in table[lang].items():
        assert len(templates) >= 6, label
        assert all("{" in template for template in templates)
        assert len(every(table, lang, label)) >= 60, label


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("tag", TABLES)
def test_draws_are_among_the_sentences_and_depend_on_the_generator_alone(tag, lang):
    for label in LABEL_SETS[tag].values:
        first, second = (
            [DRAW[tag](lang, label, rng) for _ in range(300)] for rng in (random.Random(5), random.Random(5))
        )
        assert first == second
        assert set(first) <= every(TABLES[tag], lang, label)
        assert len(set(first)) >= 40, label


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_sentence_has_two_labels(lang):
    owners = defaultdict(set)
    for tag, table in TABLES.items():
        for label in table[lang]:
            for text in every(table, lang, label):
                owners[text].add((tag, label))
    for text, _ in questions.facts(lang):
        owners[text].add("question")
    rng = random.Random(0)
    for _ in range(20000):
        owners[grammar.sentence(lang, rng)].add("command")
    assert {text: labels for text, labels in owners.items() if len(labels) > 1} == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_lengths_letters_and_vocabulary(lang):
    texts = [text for table in TABLES.values() for label in table[lang] for text in every(table, lang, label)]
    texts += [text for text, _ in questions.facts(lang)]
    low, high = LENGTHS[lang]
    form = r"[a-z]+( [a-z]+)*" if lang == "en" else r"[\u4e00-\u9fff]+"
    known = set(contents.vocabulary(lang))
    for text in texts:
        assert low <= len(grammar.words(text, lang)) <= high, text
        assert re.fullmatch(form, text), text
        assert known.issuperset(grammar.words(text, lang)), text
    for _, answer in questions.facts(lang):
        assert re.fullmatch(form, answer) and known.issuperset(grammar.words(answer, lang))
    assert len(known - set(grammar.vocabulary(lang))) <= NEW_UNITS


@pytest.mark.parametrize("lang", LANGUAGES)
def test_questions(lang):
    answers = dict(questions.facts(lang))
    assert len(answers) == len(questions.facts(lang)) >= 250  # no question has two answers
    assert len(questions.RELATIONS[lang]) >= 5
    assert all(len(set(phrasings)) >= 4 for phrasings, _ in questions.RELATIONS[lang].values())
    rng = random.Random(1)
    drawn = [questions.question(lang, rng) for _ in range(3000)]
    assert all(answers[text] == answer for text, answer in drawn)
    assert len({text for text, _ in drawn}) >= 250


@pytest.mark.parametrize(
    ("lang", "text", "answer"),
    [
        ("en", "what is five plus four", "nine"),
        ("en", "tell me the day after sunday", "monday"),
        ("en", "which day is before monday", "sunday"),
        ("en", "what is the capital of japan", "tokyo"),
        ("en", "what is the opposite of close", "open"),
        ("zh", "五加五等于几", "十"),
        ("zh", "星期天后是星期几", "星期一"),
        ("zh", "十二月的下个月是几月", "一月"),
        ("zh", "一月前是几月", "十二月"),
        ("zh", "二月是什么季节", "冬天"),
        ("zh", "三月是什么季节", "春天"),
        ("zh", "十一月是什么季节", "秋天"),
        ("zh", "西安在哪个国家", "中国"),
    ],
)
def test_facts_are_true(lang, text, answer):
    assert dict(questions.facts(lang))[text] == answer


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("快跑银行着火了", "kuai4 pao3 yin2 hang2 zhao2 huo3 le5"),
        ("她看着红色的门", "ta1 kan4 zhe5 hong2 se4 de5 men2"),
        ("妈妈走了我很难过", "ma1 ma5 zou3 le5 wo3 hen3 nan2 guo4"),
        ("真恶心米饭臭了", "zhen1 e3 xin1 mi3 fan4 chou4 le5"),
        ("哪里是中国的首都", "na3 li3 shi4 zhong1 guo2 de5 shou3 du1"),
        ("好开心和妈妈去车站", "hao3 kai1 xin1 he2 ma1 ma5 qu4 che1 zhan4"),
    ],
)
def test_readings(text, reading):
    assert pinyin(text) == reading


def test_chinese_is_read_a_syllable_per_character():
    texts = [text for text, _ in questions.facts("zh")]
    for table in TABLES.values():
        for label in table["zh"]:
            for template in table["zh"][label]:
                some = contents.sentences(template, "zh")
                texts += random.Random(2).sample(some, min(5, len(some)))
    for text in texts:
        assert re.fullmatch(r"[a-z]+[1-5]( [a-z]+[1-5])*", pinyin(text)), text


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_espeak_knows_every_syllable():
    """What espeak-ng takes for English it marks with the switch of language, "(en)"."""
    new = set(contents.vocabulary("zh")) - set(grammar.vocabulary("zh"))
    syllables = sorted({pinyin(char) for char in new})
    said = subprocess.run(
        ["espeak-ng", "-v", "cmn-latn-pinyin", "-q", "-x"],
        input="\n\n".join(syllables),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "(en)" not in said
    assert len(said.split()) == len(syllables)
