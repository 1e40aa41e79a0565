"""The demo's page as a person sees it: a real, headless Chromium that plays a recording as its microphone.

python -m tests.demo.browser docs/demo.png     # takes the picture of the documentation
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = sorted((ROOT / "mindspore_osum" / "assets" / "recordings").glob("*.wav"))
WAIT = 240_000  # milliseconds for an answer; the first one compiles


@contextmanager
def demo(*args, **env):
    """A running `osum demo` on a free port: (process, address)."""
    command = [sys.executable, "-m", "mindspore_osum", "demo", "--port", "0", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, **pipes)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"the page is on (http://\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("the demo did not start:\n" + "".join(said))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def chromium() -> str | None:
    """The browser of the system, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def page_at(url: str, microphone: Path):
    """A page of playwright at `url`, in a browser whose microphone plays a file again and again."""
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            with opened(browser, url) as page:
                yield page
        finally:
            browser.close()


@contextmanager
def opened(browser, url: str, **settings):
    """A page at `url` in a window of its own; `settings` are of playwright: language, size."""
    allowed = ["microphone", "clipboard-read", "clipboard-write"]
    settings = {
        "viewport": {"width": 1200, "height": 900},
        "locale": "en-US",
        "permissions": allowed,
    } | settings
    with browser.new_context(**settings) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        yield page


def drop(page, recording: Path) -> None:
    """Give the page a recording; it has been uploaded then."""
    page.locator("#osum-audio input[type=file]").set_input_files(recording)
    page.locator("#osum-audio [data-testid=download-link]").wait_for()


def listen(page) -> str:
    """Press the button; the transcript when the answer is there."""
    page.locator("#osum-status .osum-asked").evaluate_all("found => found.forEach(x => x.remove())")
    page.locator("#osum-listen").click()
    page.locator("#osum-status .osum-asked").wait_for(state="attached", timeout=WAIT)
    return page.locator("#osum-text textarea").input_value()


def choose(page, field: str, option: str) -> None:
    """Choose in a list of the page."""
    page.locator(f"{field} input").click()
    page.get_by_role("option", name=option).click()


def take_picture(target: Path) -> None:
    """The page with the answer to a bundled recording."""
    with demo() as (_, url), page_at(url, RECORDINGS[0]) as page:
        choose(page, "#osum-bundled", "i lost my green bird")
        page.locator("#osum-audio audio").wait_for()
        choose(page, "#osum-task", "all eight tasks")
        listen(page)
        page.locator("#osum-mel img").wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=target, full_page=True)


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]))
