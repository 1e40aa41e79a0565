"""`osum doctor`: what it prints of a machine, and how it ends when a layer computes something else."""

import json

import numpy as np
import pytest

from mindspore_osum.ascend import host, selftest
from mindspore_osum.cli import main
from mindspore_osum.commands import doctor


@pytest.fixture
def results(monkeypatch):
    """What the self-test finds instead of computing: name -> factor."""
    found = {"encoder layer": 1.0}
    stored = json.loads(selftest.STORED.read_text(encoding="utf-8"))
    monkeypatch.setattr(
        selftest, "measure", lambda *args: ((name, np.array(stored[name]) * found[name]) for name in found)
    )
    return found


def test_versions_and_rules_without_computing(capsys):
    assert main(["doctor", "--no-self-test", "--device", "CPU"]) == 0
    said = capsys.readouterr().out
    for part in ("mindspore_osum ", "mindspore 2.", "numpy ", "device: CPU", "driver: ", "CANN: ", "rules: "):
        assert part in said
    assert "self-test" not in said


def test_a_machine_that_computes_as_it_should(results, capsys):
    assert main(["doctor", "--device", "CPU"]) == 0
    assert "plain operators in float32: encoder layer: fine" in capsys.readouterr().out


def test_a_difference_is_one_line_and_a_status(results, capsys):
    results["adapter"] = 1.5
    assert main(["doctor", "--device", "CPU", "--json"]) == 1
    said = capsys.readouterr()
    assert [r["fine"] for r in json.loads(said.out)["self-test"]] == [True, False]
    (line,) = said.err.splitlines()
    assert "adapter (plain, float32)" in line and "docs/ASCEND.md" in line


def test_an_operator_that_is_missing_is_one_line(monkeypatch, capsys):
    def stops(*args):
        raise RuntimeError("\n---\n- Kernel select failed:\n---\nUnsupported op [RmsNorm]\nand more")
        yield

    monkeypatch.setattr(selftest, "measure", stops)
    assert main(["doctor", "--device", "CPU"]) == 1
    said = capsys.readouterr()
    assert "STOPPED: Unsupported op [RmsNorm]" in said.out
    assert len(said.err.splitlines()) == 1


def test_ascends_own_operators_are_tested_unless_asked_otherwise(monkeypatch):
    monkeypatch.delenv("OSUM_OPS", raising=False)
    assert [path for path, _ in doctor.paths("Ascend")] == ["plain", "fused", "fused"]
    monkeypatch.setenv("OSUM_OPS", "plain")
    assert doctor.paths("Ascend") == doctor.paths("CPU") == [("plain", "float32")]


def test_versions_of_driver_and_cann(tmp_path, monkeypatch):
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    assert host.driver(tmp_path).startswith("none found (") and host.cann(tmp_path).startswith("none found (")
    versions = {"driver/version.info": "Version=24.1.0\n", "cann/opp/version.info": "a\nVersion=8.5.0\n"}
    for name, text in versions.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert host.driver(tmp_path).startswith("24.1.0 (") and host.cann(tmp_path).startswith("8.5.0 (")
    (tmp_path / "driver/version.info").write_bytes(b"\xff" * 9 * host.LARGEST + b"\nVersion=1\n")
    assert host.driver(tmp_path).startswith("no version in ")


def test_npu_smi_is_asked_only_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.devices() == []
    program = tmp_path / "npu-smi"
    program.write_text("#!/bin/sh\necho '| npu-smi 24.1 Version: 24.1 |'\necho\necho '| 0  910B3 | OK |'\n")
    program.chmod(0o755)
    assert host.devices() == ["| npu-smi 24.1 Version: 24.1 |", "| 0  910B3 | OK |"]
