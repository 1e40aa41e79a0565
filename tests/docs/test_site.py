"""The documentation site is built without warnings, and its generated parts are complete."""

import dataclasses
import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mindspore_osum.commands.verbs import VERBS
from mindspore_osum.errors import UserError
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.job import Sections
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.tasks import LABEL_SETS, TASK_KEYS
from mindspore_osum.text.requests import task_requests
from mindspore_osum.training.config import TrainConfig
from tests.docs.commands import ROOT

pytest.importorskip("mkdocs", reason="needs mkdocs (extra docs)")
sys.path.insert(0, str(ROOT / "scripts"))
import make_docs  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def text(site):
    """text("CONFIG") -> what a reader sees of a page."""

    def of(page: str) -> str:
        body = (site / f"{page}.html").read_text(encoding="utf-8").partition('role="main"')[2]
        return html.unescape(re.sub(r"<[^<>]*>", " ", body))

    return of


def test_every_page_is_in_the_navigation(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in home or page.stem == "index", page.name


def test_no_mark_is_left(site):
    for page in site.glob("*.html"):
        assert "generated:" not in page.read_text(encoding="utf-8"), page.name


def test_every_setting_is_there(text):
    shown = text("CONFIG").split()
    for cls in (TrainConfig, Sections, ModelConfig, EncoderConfig, AdapterConfig, DecoderConfig, LoraConfig):
        for field in dataclasses.fields(cls):
            assert field.name in shown, f"{cls.__name__}.{field.name}"
    nested = [cls for job in (TrainConfig, Sections) for _, cls in make_docs.nested("", job)]
    assert len(nested) == len(set(nested)) > 10


def test_every_key_label_and_request_is_there(text):
    page = text("LABELS")
    for shown in [*TASK_KEYS, *(f"<{v}>" for labels in LABEL_SETS.values() for v in labels.values)]:
        assert shown in page, shown
    assert all(request in page for request in task_requests("asr"))
    keys = text("CONVERSION")
    assert all(other.why in keys for form in SYSTEM.forms().values() for other in form.others)


def test_every_verb_is_there(text):
    page = text("COMMANDS")
    for verb in VERBS:
        assert f"usage: osum {verb}" in page
    assert "usage: osum data import" in page and str(ROOT) not in page


def test_comments_of_a_setting():
    """In its lines, over several, and alone before it."""
    assert make_docs.comments(EncoderConfig)["pad_to_seconds"].startswith("audio is padded to this")
    meaning = make_docs.comments(TrainConfig)
    assert meaning["clip_norm"] == "gradients are scaled to at most this global norm"
    assert meaning["learn"].startswith("parts that learn")


def test_an_unknown_mark_is_refused():
    with pytest.raises(UserError, match="known are config"):
        make_docs.filled("<!-- generated: gone -->\n<!-- end -->\n")


def test_links_out_of_the_folder_become_text():
    shown = make_docs.on_page_markdown("[a](../setup.py) [b](../gone.py) [c](DATA.md)")
    assert shown == "a [b](../gone.py) [c](DATA.md)"


def test_a_page_that_the_navigation_lacks(tmp_path):
    for name in ("index.md", "NEW.md"):
        (tmp_path / name).touch()
    config = {"nav": ["index.md"], "docs_dir": str(tmp_path)}
    assert make_docs.on_config(config)["nav"] == ["index.md", {make_docs.OTHER_PAGES: ["NEW.md"]}]
