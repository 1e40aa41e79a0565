"""`osum bench`: each subject runs, its keys are there, its last line is JSON; nothing asserts times."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mindspore_osum.bench.card import Curve
from mindspore_osum.cli import main
from mindspore_osum.commands import bench as command
from mindspore_osum.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "encoder": {"encoder_30s_vs_torch", "encoder_unpadded_gain"},
    "launches": {"launches_decode_layer"},
    "prefill": {"prefill_vs_torch"},
    "decode": {"decode_vs_torch", "decode_bandwidth_share", "decode_batch8_gain", "cache_gain"},
    "train": {"train_step_vs_torch", "loader_vs_demand"},
    "packing": {"packed_vs_static32", "packed_vs_pad30", "packed_vs_dynamic", "packing_efficiency"},
    "features": {"logmel_realtime"},
    "convert": {"convert_vs_disk"},
    "index": {"index_first_batch_s"},
    "load": {"first_answer_s"},
    "requests": {"recompiles"},
    "whisper": {"whisper_vs_transformers", "whisper_vs_openai", "whisper_vs_faster"},
}
WITH_TORCH = {"encoder", "prefill", "decode", "train"}
FAST = {"features", "convert"}


def test_every_promise_has_a_subject():
    from mindspore_osum.bench.card import RATIOS

    assert {*command.SUBJECTS, command.WITH_MODEL} == set(KEYS)
    found = [key for keys in KEYS.values() for key in keys]
    assert sorted(found) == sorted(RATIOS)


@pytest.mark.parametrize(
    "subject", [pytest.param(s, marks=() if s in FAST else pytest.mark.slow) for s in command.SUBJECTS]
)
def test_a_subject(subject):
    if subject in WITH_TORCH:
        pytest.importorskip("torch", reason="needs torch (extra dev)")
    call = [sys.executable, str(ROOT / "scripts" / "bench.py"), subject, "--quick", "--threads", "1"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *shown, last = done.stdout.splitlines()
    result = json.loads(last)
    assert shown[0] == f"== {subject}" and all(any(key in line for line in shown) for key in KEYS[subject])
    assert set(result["ratios"]) == KEYS[subject] and result["quick"] is True and result["threads"] == 1
    numbers = [*result["ratios"].values(), *result["figures"].values()]
    assert all(math.isfinite(n) and n >= 0 for n in numbers), result
    assert all(n > 0 for key, n in result["ratios"].items() if key != "recompiles")
    assert result["machine"]["cores"] >= 1 and result["machine"]["mindspore"]


def test_all_goes_on_after_a_subject_that_fails(monkeypatch, capfd):
    monkeypatch.setattr(command, "SUBJECTS", {"encoder": 0.05, "features": 60})
    assert main(["bench", "all", "--quick", "--threads", "1"]) == 1
    out, err = capfd.readouterr()
    *shown, last = out.splitlines()
    result = json.loads(last)
    assert set(result["ratios"]) == KEYS["features"] and set(result["failed"]) == {"encoder"}
    assert "took more than 0.05 s" in result["failed"]["encoder"] and "encoder FAILED" in "\n".join(shown)
    assert "Traceback" not in err


def test_a_subject_that_ends_with_an_error_is_one_line():
    code = "import sys; sys.stderr.write('x\\nthe last word\\n'); sys.exit(3)"
    with pytest.raises(UserError, match="ended with 3: the last word$"):
        command._output([sys.executable, "-c", code], 30)


def test_plots_and_figures_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra plots)")
    from mindspore_osum.bench.plots import write

    write(tmp_path / "out", {"ratios": {"recompiles": 0}}, {"encoder": Curve("x", "y", [(1, 1.0), (2, 2.5)])})
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == {"ratios": {"recompiles": 0}}
    assert (tmp_path / "out" / "encoder.png").read_bytes().startswith(b"\x89PNG")


def test_threads_are_checked(capsys):
    assert main(["bench", "features", "--threads", "0"]) == 1
    assert capsys.readouterr().err == "osum: --threads 0: must be 1 or more\n"


def test_the_torch_side_answers_and_tells_why_it_ends(tmp_path):
    pytest.importorskip("torch", reason="needs torch (extra dev)")
    from mindspore_osum.bench.torch_client import TorchSide

    with TorchSide(1, tmp_path / "log") as torch:
        assert torch.run("product", shape=[2, 3, 4])() > 0
        with pytest.raises(UserError, match="ended at 'no_such_thing'.*no attribute"):
            torch.ask("no_such_thing")


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "bench whisper: give the folder of a Whisper, --model FOLDER"),
        (["--model", "tiny"], "bench whisper: give speech, --audio FILE...; several files are joined"),
        (
            ["--model", "tiny", "--audio", "no.wav"],
            "--model tiny: this benchmark is of a Whisper; give its folder",
        ),
        (["--rounds", "0"], "--rounds 0: must be 1 or more"),
    ],
)
def test_what_whisper_needs(args, message, capsys):
    assert main(["bench", "whisper", *args]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"osum: {message}"


def test_another_program_that_is_not_there(tmp_path):
    """A missing package is named; an interpreter that is none is a line."""
    from mindspore_osum.bench import whisper_side
    from mindspore_osum.bench.torch_client import Side

    (tmp_path / "whisper.py").write_text("raise ImportError('No module named whisper')")
    (tmp_path / "torch.py").touch()
    env = {"PYTHONPATH": str(tmp_path)}
    asked = {"name": "openai", "model": "", "threads": 1, "end": 9, "first_time": 20}
    with Side("openai", [sys.executable, whisper_side.__file__], tmp_path / "log", env) as side:
        assert side.ask("load", **asked) == {"missing": "No module named whisper"}
    with pytest.raises(UserError, match="no/python: cannot be started"):
        Side("openai", ["no/python"], tmp_path / "log")


@pytest.mark.slow
def test_whisper(shared, tmp_path, capsys):
    """A small model beside the programs that are installed; transformers is."""
    pytest.importorskip("transformers", reason="needs transformers (extra dev)")
    from ckpt_convert.convert import convert
    from tests.systems.whisper_asr.common import write_tokenizer

    convert(
        shared / "golden/whisper_decoder/tiny.pt", tmp_path / "model", tokenizer=write_tokenizer(tmp_path)
    )
    speech = sorted((ROOT / "mindspore_osum/assets/recordings").glob("*.wav"))
    args = ["--quick", "--model", str(tmp_path / "model"), "--audio", *map(str, speech)]
    assert main(["bench", "whisper", *args]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "whisper_vs_transformers" in result["ratios"] and set(result["ratios"]) <= KEYS["whisper"]
    assert all(value > 0 for value in result["ratios"].values())
    named = " ".join(result["notes"])
    assert all(name in named for name in ("transformers", "openai-whisper", "faster-whisper"))
