"""What the page shows of a response."""

import re

import numpy as np

from mindspore_osum.demo.texts import Texts
from mindspore_osum.demo.views import (
    error_html,
    head_html,
    labels_html,
    mel_picture,
    status_html,
    transcript,
    waiting_html,
    words_html,
)
from mindspore_osum.results import Answer, Response, Word

EVIL = '<img src=x onerror="alert(1)">'
EN = Texts()


def response(**parts) -> Response:
    return Response("a.wav", 2.0, [Answer(0.0, 2.0, **parts)])


def test_words_carry_their_times():
    words = [Word("hello", 0.25, 0.5), Word("world", 0.5, 1.125)]
    page = words_html(response(text="hello world", words=words), "/file=a%20b.wav", EN)
    found = re.findall(r'data-start="([\d.]+)" data-end="([\d.]+)"[^>]*>([^<]*)</button>', page)
    assert found == [("0.250", "0.500", "hello"), ("0.500", "1.125", "world")]
    assert 'data-audio="/file=a%20b.wav"' in page


def test_without_words_a_segment_is_played():
    assert 'data-start="0.000" data-end="2.000"' in words_html(response(text="hello"), "x", EN)
    assert words_html(response(), "x", EN) == ""


def test_nothing_that_was_written_is_markup():
    doubtful = response(labels={EVIL: EVIL}, warnings=[EVIL], error=EVIL, words=[Word(EVIL, 0, 1)])
    doubtful.error = EVIL
    page = words_html(doubtful, EVIL, EN) + labels_html(doubtful, [EVIL + "2"], EN)
    page += status_html(doubtful, EVIL, EN) + error_html(EVIL, EN) + waiting_html(EVIL) + head_html(EVIL, EN)
    assert "<img" not in page and page.count("&lt;img") == 11


def test_labels_with_probabilities_best_first():
    sure = {"age": {"CHILD": 0.125, "ADULT": 0.75, "OLD": 0.124, "X": 0.001}}
    page = labels_html(response(labels={"age": "ADULT", "gender": "MALE"}, probabilities=sure), [], EN)
    assert re.findall(r">([\d.]+%)</td>", page) == ["75.0%", "12.5%", "12.4%", "100.0%"]
    assert re.findall(r'class="chosen">(\w+)', page) == ["ADULT", "MALE"]
    assert labels_html(response(text="hello"), [], EN) == ""


def test_labels_in_chinese_and_what_is_missing():
    page = labels_html(response(labels={"age": "ADULT"}), ["age", "emotion"], Texts("zh-CN"))
    assert "成年 (ADULT)" in page and "<td>年龄</td>" in page
    assert page.count("这次回答中缺失") == 1 and "<td>情绪</td>" in page


def test_status_says_what_was_asked_and_what_is_doubtful():
    doubtful = response(text="a", warnings=["left out"], cut=True)
    doubtful.notes = ["of the recording"]
    page = status_html(doubtful, "speech recognition", EN)
    assert re.findall(r">([^<>]+)<", page) == [
        "asked: speech recognition",
        "warning: of the recording",
        "warning: left out",
        "warning: the answer is truncated, at --max-new-tokens or the model&#x27;s last position",
    ]
    silent = status_html(response(no_speech=True), "所问", Texts("zh"))
    assert "没有发现语音" in silent and "所提请求：所问" in silent


def test_transcript_has_the_reply():
    assert transcript(response(text="how are you", answer="fine"), EN) == "how are you\n\nreply: fine"
    assert transcript(response(answer="好"), Texts("zh")) == "回复：好"


def test_picture():
    """Time to the right, low pitch below, loud is bright; never wider than the page can use."""
    mel_TF = np.full((200, 80), -1.5, np.float32)
    mel_TF[150:, :20] = 1.0
    picture = mel_picture(mel_TF)
    bright = picture.sum(-1) > 600
    assert picture.dtype == np.uint8 and picture.shape == (240, 600, 3)
    assert bright[180:, 450:].all() and bright.sum() == 60 * 150
    assert mel_picture(np.zeros((30_000, 80), np.float32)).shape[1] <= 1600
    assert mel_picture(np.zeros((1, 80), np.float32)).shape == (240, 600, 3)
    peak = np.zeros((30_000, 80), np.float32)
    peak[12_345] = 1  # a click is seen however long the recording is
    assert (mel_picture(peak).sum(-1) > 600).any()
