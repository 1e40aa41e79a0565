"""The bundled model on the bundled recordings: what scripts/quickstart.sh shows and the README reports."""

import json
import re
from pathlib import Path

import pytest

from mindspore_osum.cli import main
from mindspore_osum.data.formats.manifest import key_of
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.evaluation.report import MEASURES
from mindspore_osum.evaluation.scoring import tasks_of
from mindspore_osum.folder import TOKENIZER, read_config
from mindspore_osum.systems.registry import preset
from mindspore_osum.tasks import LABEL_SETS, TASKS
from mindspore_osum.text.tokenizer import open_tokenizer

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "mindspore_osum" / "assets"
MANIFEST = ASSETS / "recordings" / "manifest.jsonl"
FIELDS = tuple(labels.field for labels in LABEL_SETS.values())
SCOPE = "bundled recordings"  # README figures that have these words in their row or in a heading are checked
TITLES = {"mixed error rate": "mer"} | {title: name for name, title in MEASURES.items()}
FIGURE = re.compile(r"(\d+(?:\.(\d+))?) ?(%|ms)?(?= |$)")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """metrics.json of `osum eval` with the bundled model, by its name, asked by tags and in words."""
    out = tmp_path_factory.mktemp("eval")
    args = ["--model", "tiny", "--manifest", str(MANIFEST), "--output", str(out), "--no-plots"]
    assert main(["eval", *args, "--prompts", "both"]) == 0
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def tables(markdown: str):
    """Rows of cells of each table, the heading first."""
    for block in re.findall(r"(?:^\|.*\n?)+", markdown, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def readme_figures(markdown: str) -> list[tuple[str, str, str, str, int, str]]:
    """(prompts, task, name in metrics.json, value, decimals, unit) of every figure about the recordings.

    Task and measure are named in the figure's row, its column's heading, or the table's corner; "natural" or
    "words" in one of these says how the model was asked, by its tags otherwise.
    """
    found = []
    for heading, *rows in tables(markdown):
        for row in rows:
            for cell, column in zip(row[1:], heading[1:], strict=False):
                places = (row[0], column, heading[0])
                figure = FIGURE.match(cell)
                if figure and any(SCOPE in place for place in places):
                    natural = any(word in place for place in places for word in ("natural", "words"))
                    task = _first(places, [*TASKS, "intent"])
                    name = TITLES[_first(places, sorted(TITLES, key=len, reverse=True))]
                    decimals = len(figure[2] or "")
                    mode = "natural" if natural else "fixed"
                    found.append((mode, task, name, figure[1], decimals, figure[3] or ""))
    return found


def _first(places, words) -> str:
    return next(w for place in places for w in words if re.search(rf"(?<!\w){re.escape(w)}(?!\w)", place))


def test_figures_of_a_readme_are_found():
    """The forms a table may have."""
    text = (
        "text\n\n| bundled model, asr | mixed error rate |\n|---|---|\n| test split | 12.0 % (95 %: 9-14) |\n"
        "| bundled recordings | 7.6 % (of 12) |\n\n"
        "| bundled recordings | accuracy | AAS, in words |\n|---|---:|---:|\n| sgc | 91 % | |\n"
        "| srwt | - | 20.5 ms |\n"
    )
    assert readme_figures(text) == [
        ("fixed", "asr", "mer", "7.6", 1, "%"),
        ("fixed", "sgc", "accuracy", "91", 0, "%"),
        ("natural", "srwt", "aas_ms", "20.5", 1, "ms"),
    ]


def test_recordings_were_not_trained_on():
    """Voices of the test split only; the generator's own tests show that its splits share none."""
    utterances, problems = read_manifest(MANIFEST)
    assert len(utterances) >= 12 and not problems
    assert all(u.key.startswith("test_") for u in utterances)
    assert {u.extra["lang"] for u in utterances} == {"en", "zh"}


def test_model_is_the_preset_with_its_tokenizer():
    cfg = read_config(ASSETS / "tiny")
    assert cfg == preset("tiny")
    tokenizer = open_tokenizer(ASSETS / "tiny" / TOKENIZER)
    assert tokenizer.vocab_size <= cfg.decoder.vocab_size
    assert (tokenizer.bos_id, tokenizer.eos_id) == (cfg.decoder.bos_id, cfg.decoder.eos_id)


def test_readme_reports_these_figures(metrics):
    """Every figure about the recordings is the one that comes out here, to the digits it gives."""
    reported = readme_figures((ROOT / "README.md").read_text(encoding="utf-8"))
    for mode, task, name, shown, decimals, unit in reported:
        scale = 100 if unit == "%" else 1
        value = scale * metrics[mode][task][name]
        assert f"{value:.{decimals}f}" == shown, f"{mode} {task} {name}: README has {shown}, it is {value}"
    recorded = {task for u in read_manifest(MANIFEST)[0] for task in tasks_of(key_of(u))}
    assert {task for mode, task, *_ in reported if mode == "fixed"} == recorded


def test_it_listens(metrics):
    """Far better than a model that knows the sentences but not the sound (error rate near 1)."""
    assert metrics["fixed"]["asr"]["wer"] < 0.3


def test_an_annotation_has_every_label_and_no_mark_in_its_text(tmp_path):
    """Several labels at once, of two questions and a poem without a sound beside the words."""
    names, out = ("test_000021.wav", "test_000023.wav", "test_000065.wav"), tmp_path / "out.jsonl"
    recordings = [str(MANIFEST.with_name(name)) for name in names]
    assert main(["annotate", *recordings, "--model", "tiny", "--output", str(out)]) == 0
    known = {Path(u.wav).name: u.extra for u in read_manifest(MANIFEST)[0]}
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for name, found in zip(names, lines, strict=True):
        said = {field: known[name][field] or "OTHER" for field in FIELDS}
        assert found["labels"] == said and not found["cut"], name
        assert found["text"] == "".join(word for word, *_ in known[name]["words"]), name
