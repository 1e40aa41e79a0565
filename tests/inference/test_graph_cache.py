"""Graphs from disk compute what compiled ones compute, with the weights of the model at hand."""

import ast
import os
import shutil

import numpy as np
import pytest

from mindspore_osum.inference import graph_cache
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.target import made_for
from tests.inference.common import SMALL, fill, random_prompt

SETTINGS = Sampling(max_new_tokens=24, repetition_penalty=1.1)


def model_of(seed: int):
    from mindspore_osum.systems.osum.network import OsumModel

    model = OsumModel(SMALL)
    fill(model, seed=seed)
    return model


def answers(model, prompts) -> list:
    """Of a new generator, which compiles its graphs or takes them from disk."""
    return Generator(model, eos_ids=[]).generate(prompts, SETTINGS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(graph_cache.FOLDER, str(tmp_path / "graphs"))
    return tmp_path / "graphs"


@pytest.fixture(scope="module")
def prompts():
    return [
        random_prompt(SMALL, np.random.default_rng(seed), *sizes)
        for seed, *sizes in ((1, 12, 90), (2, 9, 51))
    ]


@pytest.fixture(scope="module")
def made(prompts, tmp_path_factory):
    """(model, its answers, folder with their graphs)."""
    folder = tmp_path_factory.mktemp("made") / "graphs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(graph_cache.FOLDER, str(folder))
        model = model_of(9)
        return model, answers(model, prompts), folder


@pytest.fixture
def filled(made, folder):
    """(model, its answers), and their graphs in `folder`."""
    shutil.copytree(made[2], folder)
    return made[:2]


def copies(monkeypatch) -> list[bool]:
    """Whether each graph asked for from now on was laid before MindSpore."""
    seen, original = [], graph_cache._copied
    monkeypatch.setattr(graph_cache, "_copied", lambda *a: seen.append(original(*a)) or seen[-1])
    return seen


def test_another_models_graphs_compute_with_this_models_weights(folder, prompts, monkeypatch):
    one, other = model_of(5), model_of(6)
    with monkeypatch.context() as off:
        off.setenv(graph_cache.FOLDER, "off")
        expected = [answers(model, prompts) for model in (one, other)]
    assert expected[0] != expected[1] and not folder.exists()
    found = copies(monkeypatch)
    assert answers(one, prompts) == expected[0] and found == [False, False]
    found.clear()
    assert len(list(folder.iterdir())) == 2  # prefill and step
    assert answers(other, prompts) == expected[1] and found == [True, True]
    assert answers(one, prompts) == expected[0] and found == [True] * 4
    assert all(
        sorted(f.name for f in home.iterdir()) == ["graph.mindir", "scripts.hash"]
        for home in folder.iterdir()
    )
    first = next(p for p in one.get_parameters() if p.size > 64).asnumpy().tobytes()
    assert not any(first in graph.read_bytes() for graph in folder.rglob("*.mindir"))
    assert not any(name in os.environ for name in ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"))


def test_a_graph_from_disk_is_not_parsed(folder, prompts, monkeypatch):
    """By MindSpore's own count: it takes what was laid before it."""
    from mindspore._extends.parse import parser

    parsed, parse = [], parser.Parser.parse
    monkeypatch.setattr(parser.Parser, "parse", lambda self: parsed.append(self) or parse(self))
    model = model_of(10)
    expected = answers(model, prompts)
    assert parsed
    parsed.clear()
    assert answers(model, prompts) == expected and not parsed


def test_two_caches_of_one_model_stay_apart(filled, prompts):
    """Answers side by side have a state each, though their graphs come from one file."""
    model, _ = filled
    alone = [answers(model, [prompt]) for prompt in prompts]
    generator = Generator(model, eos_ids=[])
    streams = [generator.stream([prompt], SETTINGS) for prompt in prompts]
    side_by_side = list(zip(*streams, strict=True))
    for k, answer in enumerate(alone):
        assert [int(tokens[k][0]) for tokens in side_by_side] == answer[0].tokens


def test_other_code_and_other_shapes_have_graphs_of_their_own(filled, folder, prompts, monkeypatch):
    model, expected = filled
    longer = answers(model, prompts * 2)
    count = len(list(folder.iterdir()))
    assert count == 4
    monkeypatch.setattr(graph_cache, "_code", lambda: "another")
    assert answers(model, prompts) == expected == longer[:2]
    assert len(list(folder.iterdir())) == count + 2


@pytest.mark.parametrize("content", [b"", None])
def test_a_broken_file_is_no_answer(filled, folder, prompts, content):
    model, expected = filled
    for graph in folder.rglob("*.mindir"):
        graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2] if content is None else content)
    assert answers(model, prompts) == expected


def test_no_folder_no_cache(tmp_path, prompts, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(graph_cache.FOLDER, str(tmp_path / "file" / "graphs"))
    assert graph_cache._folder() is None
    monkeypatch.delenv(graph_cache.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert graph_cache._folder() == tmp_path / "caches" / "mindspore_osum" / "graphs"
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    assert graph_cache._folder() is None


def test_the_oldest_graphs_are_deleted(tmp_path, monkeypatch):
    for age, name in enumerate(("new", "old", "older", ".part-1-x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph.mindir").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(graph_cache, "LARGEST", 250)
    graph_cache._prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]


def test_the_script_that_mindspore_looks_through_imports_nothing():
    """MindSpore makes each module anew that it imports; sys made anew writes elsewhere."""
    tree = ast.parse(graph_cache.SCRIPT.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_elsewhere_than_on_cpu_a_folder_has_to_be_named(monkeypatch, tmp_path):
    monkeypatch.delenv(graph_cache.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graph_cache._folder() == tmp_path / "mindspore_osum" / "graphs"
    with made_for("Ascend"):
        assert graph_cache._folder() is None
        monkeypatch.setenv(graph_cache.FOLDER, str(tmp_path / "named"))
        assert graph_cache._folder() == tmp_path / "named"
