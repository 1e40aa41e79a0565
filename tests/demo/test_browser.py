"""The page in a real browser: drop, record, choose, listen, hear a word."""

import pytest

from tests.demo.browser import RECORDINGS, chromium, demo, drop, listen, page_at
from tests.inference.common import small_folder

pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
pytest.importorskip("gradio", reason="needs gradio (extra demo)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt install chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page at a running demo; what it fetched from other hosts must be nothing."""
    folder = small_folder(tmp_path_factory.mktemp("model") / "small")
    with demo("--model", folder, "--max-new-tokens", "8") as (_, url), page_at(url, RECORDINGS[0]) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        assert asked and all(address.startswith((url, "data:", "blob:")) for address in asked)


@pytest.fixture(autouse=True)
def fresh(page):
    page.reload()
    page.locator("#osum-listen").wait_for()


def everything(page) -> str:
    page.get_by_role("button", name="everything").click()
    return page.locator("#osum-json").inner_text()


def test_dropped_recording_is_answered_and_its_words_play(page):
    drop(page, RECORDINGS[1])
    page.locator("#osum-task input").click()
    page.get_by_role("option", name="speech recognition with timestamps").click()
    text = listen(page)
    word = page.locator(".osum-word").first
    # a new line is shown as a space
    assert text and "".join(word.inner_text().split()) in "".join(text.split())
    word.click()
    sound = page.locator("#osum-words audio")
    page.wait_for_function("document.querySelector('#osum-words audio').currentTime > 0.05")
    assert "playing" in word.get_attribute("class")
    page.wait_for_function("document.querySelector('#osum-words audio').paused", timeout=20_000)
    assert sound.evaluate("x => x.currentTime") >= float(word.get_attribute("data-end")) - 0.05
    page.wait_for_function("!document.querySelector('.osum-word.playing')")
    drawn = "document.querySelector('#osum-mel img').naturalWidth >= 600"
    page.wait_for_function(drawn)
    assert RECORDINGS[1].name in everything(page)


def test_microphone_and_own_words(page):
    page.locator("#osum-audio button[aria-label='Record audio']").click()
    page.locator("#osum-audio .record-button").click()
    page.wait_for_timeout(1500)
    page.locator("#osum-audio .stop-button").click()
    page.locator("#osum-audio [data-testid=download-link]").wait_for()
    box = page.locator("#osum-request textarea, #osum-request input").first
    box.press_sequentially("What does the speaker say?")
    page.wait_for_function("document.querySelector('#osum-task input').value.includes('what I write')")
    listen(page)
    seconds = page.locator("#osum-words audio").evaluate("x => x.duration")
    assert 0.5 < seconds < 10


def test_without_a_recording_it_says_so(page):
    page.locator("#osum-listen").click()
    page.get_by_text("no recording: record one, drop a file").wait_for()
