"""The page's texts in both languages."""

import re

import pytest

from mindspore_osum.demo.listener import bundled
from mindspore_osum.demo.texts import ALL, LANGUAGES, Texts
from mindspore_osum.tasks import LABEL_SETS, TASKS


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("ZH-tw", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.3", "zh"),
        ("de,zh;q=0", "en"),
        ("en;q=nonsense,zh;q=0.1", "zh"),
        ("*", "en"),
        (",;q=,", "en"),
    ],
)
def test_the_browser_s_preferred_language(accepted, language):
    assert Texts(accepted).language == language


def test_both_languages_have_every_text_with_the_same_values():
    english, chinese = LANGUAGES["en"], LANGUAGES["zh"]
    named = {*TASKS, ALL, *(s.field for s in LABEL_SETS.values())}
    assert named <= chinese.keys() and english.keys() <= chinese.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", chinese[key])), key
    assert not [text for text in english.values() if re.search("[\u4e00-\u9fff]", text)]


def test_bundled_recordings_are_named_by_what_they_are():
    english, chinese = dict(bundled(Texts("en"))), dict(bundled(Texts("zh")))
    assert list(english.values()) == list(chinese.values()) and len(english) == 16
    assert english["English, sad, old man: i lost my green bird"].endswith("test_000000.wav")
    assert chinese["英语，悲伤，老年男子：i lost my green bird"].endswith("test_000000.wav")
    assert chinese["中文，女子：南京新闻周末早上播放"].endswith("test_000045.wav")


def test_values_are_not_read_as_formats():
    assert Texts()("asked", request="{seconds} {0} ${7*7}") == "asked: {seconds} {0} ${7*7}"
