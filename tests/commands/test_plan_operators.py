"""`osum plan --check-operators`: what it prints and its exit status, for graphs that are made by hand."""

import json

import pytest

from mindspore_osum.ascend import graphs
from mindspore_osum.cli import main
from mindspore_osum.models.graph_nodes import Node, Value

FINE = Node("Add", "Default/layer", (Value("float32", (2,)),) * 2, (Value("float32", (2,)),))
WRONG = Node("Mul", "Default/layer", (Value("uint32", (2,)),) * 2, (Value("uint32", (2,)),))
PLAN = "plan", "--check-operators", "--model", "tiny", "--dtype", "bfloat16"


@pytest.fixture
def made(monkeypatch):
    """The graphs that are compared instead of compiled ones."""
    found = [graphs.Graph("decode of 8 rows", [FINE])]
    monkeypatch.setattr(graphs, "inference", lambda model, rows: iter(found))
    monkeypatch.setattr(graphs, "training", lambda job, model: [graphs.Graph("training step", [FINE])])
    return found


def test_allowed_operators(made, capsys):
    assert main([*PLAN]) == 0
    assert capsys.readouterr().out == "decode of 8 rows: 1 operators, all within their rules\n"


def test_a_job_has_its_steps_checked(made, capsys):
    assert main([*PLAN, "--config", "configs/tiny/stage1.yaml"]) == 0
    assert capsys.readouterr().out.startswith("training step: 1 operators")


def test_a_finding_is_a_line_and_a_status(made, capsys):
    made.append(graphs.Graph("prefill", [WRONG, FINE]))
    assert main([*PLAN]) == 1
    said = capsys.readouterr()
    assert "prefill: 2 operators, 1 finding" in said.out
    (line,) = said.err.splitlines()
    assert line.startswith("prefill: Mul: input 0 is uint32") and "in layer" in line


def test_json(made, capsys):
    made.append(graphs.Graph("prefill", [WRONG]))
    assert main([*PLAN, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [graph["findings"] for graph in found["graphs"]] == [0, 1]
    assert len(found["findings"]) == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (("--dtype", "float32"), "give --dtype bfloat16"),
        (("--model", "tinny"), "did you mean 'tiny'"),
    ],
)
def test_mistakes(made, capsys, words, said):
    assert main([*PLAN, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
