"""The page in a real browser: drop, record, choose, listen, hear a word."""

import re

import pytest

from tests.demo.browser import RECORDINGS, choose, chromium, demo, drop, listen, opened, page_at
from tests.inference.common import small_folder

pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
pytest.importorskip("gradio", reason="needs gradio (extra demo)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt install chromium"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The address of a running demo."""
    folder = small_folder(tmp_path_factory.mktemp("model") / "small")
    with demo("--model", folder, "--max-new-tokens", "8") as (_, url):
        yield url


@pytest.fixture(scope="module")
def browser_page(running):
    """A page at the demo; what it fetched from other hosts must be nothing."""
    with page_at(running, RECORDINGS[0]) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        assert asked and all(address.startswith((running, "data:", "blob:")) for address in asked)


@pytest.fixture
def page(browser_page):
    browser_page.reload()
    browser_page.locator("#osum-listen").wait_for()
    browser_page.wait_for_load_state("load")
    return browser_page


def everything(page) -> str:
    page.get_by_role("button", name="everything").click()
    return page.locator("#osum-json").inner_text()


def test_dropped_recording_is_answered_and_its_words_play(page):
    drop(page, RECORDINGS[1])
    choose(page, "#osum-task", "speech recognition with timestamps")
    text = listen(page)
    word = page.locator(".osum-word").first
    # a new line is shown as a space
    assert text and "".join(word.inner_text().split()) in "".join(text.split())
    assert page.locator("audio").count() == 1  # one player
    word.click()
    sound = page.locator("#osum-audio audio")
    page.wait_for_function("document.querySelector('#osum-audio audio').currentTime > 0.05")
    assert "playing" in word.get_attribute("class")
    page.wait_for_function("document.querySelector('#osum-audio audio').paused", timeout=20_000)
    assert sound.evaluate("x => x.currentTime") >= float(word.get_attribute("data-end")) - 0.05
    page.wait_for_function("!document.querySelector('.osum-word.playing')")
    drawn = "document.querySelector('#osum-mel img').naturalWidth >= 600"
    page.wait_for_function(drawn)
    assert RECORDINGS[1].name in everything(page)
    page.locator("#osum-audio button[aria-label='Clear']").click()
    page.wait_for_function("!document.querySelector('.osum-word')")  # an answer goes with its recording


def test_microphone_and_own_words(page):
    page.locator("#osum-audio button[aria-label='Record audio']").click()
    page.locator("#osum-audio .record-button").click()
    page.wait_for_timeout(1500)
    page.locator("#osum-audio .stop-button").click()
    page.locator("#osum-audio [data-testid=download-link]").wait_for()
    request_field(page).press_sequentially("What does the speaker say?")
    listen(page)
    assert "What does the speaker say?" in page.locator("#osum-status").inner_text()
    assert 0.5 < page.locator("#osum-audio audio").evaluate("x => x.duration") < 10


def request_field(page):
    return page.locator("#osum-request textarea, #osum-request input").first


def paste(page, words: str) -> None:
    page.evaluate("words => navigator.clipboard.writeText(words)", words)
    request_field(page).press("Control+V")


def compose(page, words: str) -> None:
    """As an input method does: letters under way, then the characters that were chosen."""
    request_field(page).focus()
    keyboard = page.context.new_cdp_session(page)
    for text in ("sh", "shei", "谁"):
        keyboard.send("Input.imeSetComposition", {"text": text, "selectionStart": 1, "selectionEnd": 1})
    keyboard.send("Input.insertText", {"text": words})


@pytest.mark.parametrize("write", [paste, compose])
@pytest.mark.parametrize(
    "words", ["谁在说话，多大年纪？", "<img src=x onerror=alert(1)> ${7*7} {{value}} `x`"]
)
def test_a_request_that_no_key_typed_is_asked(page, write, words):
    drop(page, RECORDINGS[0])
    write(page, words)
    listen(page)
    assert page.locator("#osum-status .osum-asked").inner_text() == f"asked: {words}"
    assert page.locator("#osum-status img").count() == 0


def test_a_task_that_is_chosen_afterwards_is_asked(page):
    drop(page, RECORDINGS[0])
    paste(page, "What does the speaker say?")
    choose(page, "#osum-task", "speaker age prediction")
    page.wait_for_function("!document.querySelector('#osum-request textarea, #osum-request input').value")
    listen(page)
    assert page.locator("#osum-status .osum-asked").inner_text() == "asked: speaker age prediction"


def test_without_a_recording_it_says_so_once(page):
    page.locator("#osum-listen").click()
    page.get_by_text("no recording: record one, drop a file").wait_for()
    page.wait_for_timeout(500)
    assert page.get_by_text(re.compile("no recording|Error")).count() == 1


def test_in_chinese_on_a_phone(browser_page, running):
    browser = browser_page.context.browser
    with opened(browser, running, locale="zh-CN", viewport={"width": 390, "height": 844}) as page:
        page.get_by_role("button", name="开始听").wait_for()
        choose(page, "#osum-bundled", "英语，悲伤，老年男子：i lost my green bird")
        page.locator("#osum-audio audio").wait_for()
        choose(page, "#osum-task", "全部八项任务")
        listen(page)
        assert page.locator("#osum-status").inner_text().startswith("所提请求：全部八项任务")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#osum-listen").bounding_box()["height"] >= 48
