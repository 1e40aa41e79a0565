"""`osum convert` as it is typed: exit statuses, one line for mistakes, the report, the script."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindspore_osum.cli import main
from tests.convert.common import published_state, save, torch

ROOT = Path(__file__).resolve().parents[2]
TOLD = [
    "--preset",
    "osum_pangu_7b",
    "--set",
    "encoder.n_heads=3",
    "--set",
    "adapter.n_heads=2",
    "--set",
    "decoder.n_heads=6",
    "--set",
    "decoder.eos_id=4",
    "--set",
    "lora.alpha=5.0",
]


@pytest.fixture
def source(tmp_path):
    return save(published_state(), tmp_path / "a.pt")


def osum(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


def test_there_and_back(source, tmp_path, capsys):
    assert osum(source, "--output", tmp_path / "m", *TOLD) == 0
    printed = capsys.readouterr().out
    assert "mapped" in printed and "alias of the decoder's: embed_tokens.weight, lm_head.weight" in printed
    assert "decoder.n_heads 6 (preset 32)" in printed and "MB/s" in printed
    assert osum(tmp_path / "m", "-o", tmp_path / "b.pt") == 0
    back, first = torch.load(tmp_path / "b.pt", weights_only=True), torch.load(source, weights_only=True)
    assert set(back) == set(first) and all(torch.equal(back[key], first[key]) for key in first)


def test_a_mistake_is_one_line_and_the_table(source, tmp_path, capsys):
    state = {"extra.weight": torch.ones(1), **torch.load(source, weights_only=True)}
    assert osum(save(state, tmp_path / "b.pt"), "-o", tmp_path / "m", *TOLD) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("osum: ") and "1 unexpected: extra.weight" in lines[-1]
    assert any(line.startswith("  mapped") for line in lines)
    assert osum(tmp_path / "b.pt", "-o", tmp_path / "m", "--allow", "unexpected", *TOLD) == 0
    report = json.loads((tmp_path / "m" / "conversion_report.json").read_text())
    assert list(report["unexpected"]) == ["extra.weight"]


@pytest.mark.slow
def test_verifying_both_ways(source, tmp_path, capsys):
    assert osum(source, "-o", tmp_path / "m", "--verify", *TOLD) == 0
    assert osum(tmp_path / "m", "-o", tmp_path / "b.pt", "--verify") == 0
    assert osum(tmp_path / "m", "-o", tmp_path / "b.pt", "--verify-only", "--reference", "torch") == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(results) == 3 and all(r["ok"] and len(r["stages"]) == 3 for r in results)
    assert osum("--encoder", source, "--decoder", source, "-o", tmp_path / "n", "--verify", *TOLD) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [[s["name"] for s in r["stages"]] for r in results] == [["encoder"], ["logits"]]


def test_verifying_needs_a_pytorch_side(source, tmp_path, capsys):
    assert osum(source, "-o", tmp_path / "m", *TOLD) == 0
    assert osum(tmp_path / "m", "-o", tmp_path / "merged", "--merge-lora", "--verify") == 1
    assert "needs a PyTorch checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--shard-gb", "nan"], "--shard-gb must be positive"),
        (["--allow", "mising"], "did you mean 'missing'"),
        (["--shard-gb", "0"], "--shard-gb must be positive"),
        (["--verify", "--verify-layers", "0"], "--verify-layers must be 1 or more"),
        (["--set", "decoder.n_heads"], "expected key.path=value"),
        (["--preset", "osum_pangu"], "did you mean 'osum_pangu_7b'"),
        (["--to", "hf"], "form 'hf' is unknown"),
    ],
)
def test_wrong_options(source, tmp_path, capsys, arguments, message):
    assert osum(source, "-o", tmp_path / "m", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_shards(source, tmp_path):
    assert osum(source, "-o", tmp_path / "m", "--shard-gb", "0.00005", *TOLD) == 0
    assert len(list((tmp_path / "m").glob("model-*-of-*.safetensors"))) > 2


def test_verify_needs_a_whole_source(source, tmp_path, capsys):
    assert osum("-o", tmp_path / "m", "--verify-only") == 1
    assert "give the source" in capsys.readouterr().err


def test_script_is_the_same_command_from_anywhere(source, tmp_path):
    script = ROOT / "scripts" / "convert.py"
    started = time.monotonic()
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "--merge-lora" in done.stdout and time.monotonic() - started < 10
    command = [sys.executable, script, source, "-o", "m", *TOLD]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_conversion_imports_no_framework(source, tmp_path):
    code = (
        "import sys; from mindspore_osum.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'mindspore', 'mindformers', 'mindnlp', 'torch', 'transformers', 'safetensors'};"
        "print(sorted(heavy & set(sys.modules))); sys.exit(status)"
    )
    for arguments in ([source, "-o", tmp_path / "m", *TOLD], [tmp_path / "m", "-o", tmp_path / "b.pt"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "convert", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"
