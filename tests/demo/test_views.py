"""What the page shows of a response."""

import re

import numpy as np

from mindspore_osum.demo.views import labels_html, mel_picture, words_html
from mindspore_osum.results import Answer, Response, Word

EVIL = '<img src=x onerror="alert(1)">'


def response(**parts) -> Response:
    return Response("a.wav", 2.0, [Answer(0.0, 2.0, **parts)])


def test_words_carry_their_times():
    words = [Word("hello", 0.25, 0.5), Word("world", 0.5, 1.125)]
    page = words_html(response(text="hello world", words=words), "/file=a%20b.wav")
    found = re.findall(r'data-start="([\d.]+)" data-end="([\d.]+)"[^>]*>([^<]*)</span>', page)
    assert found == [("0.250", "0.500", "hello"), ("0.500", "1.125", "world")]
    assert '<audio src="/file=a%20b.wav"' in page


def test_without_words_a_segment_is_played():
    assert 'data-start="0.000" data-end="2.000"' in words_html(response(text="hello"), "x")
    assert "osum-word" not in words_html(response(), "x")


def test_nothing_that_was_written_is_markup():
    page = words_html(response(words=[Word(EVIL, 0, 1)]), EVIL) + labels_html(response(labels={EVIL: EVIL}))
    assert "<img" not in page and page.count("&lt;img") == 4


def test_labels_with_probabilities_best_first():
    sure = {"age": {"CHILD": 0.125, "ADULT": 0.75, "OLD": 0.125}}
    page = labels_html(response(labels={"age": "ADULT", "gender": "MALE"}, probabilities=sure))
    assert re.findall(r">([\d.]+%)</td>", page) == ["75.0%", "12.5%", "12.5%", "100.0%"]
    assert re.findall(r'class="chosen">(\w+)', page) == ["ADULT", "MALE"]
    assert "No label" in labels_html(response(text="hello"))


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
