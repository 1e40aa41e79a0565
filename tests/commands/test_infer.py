"""`osum infer`: as people run it, in a process of its own, and in this one."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindspore_osum.cli import main
from mindspore_osum.commands.console import width
from mindspore_osum.commands.table import agrees, table
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.request import make_request
from mindspore_osum.results import Answer, Response
from tests.inference.common import on_a_terminal

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"audio", "text", "tags", "labels", "words", "answer", "raw", "cut", "seconds", "rtf"}
FIELDS |= {"marks", "no_speech", "warnings"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with two recordings, a broken one and a manifest."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 0.5), ("你好", 0.8)):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(round(16_000 * seconds)), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    lines = [
        {"key": "first", "wav": "a.wav", "txt": "hello world", "task": "<TRANSCRIBE>"},
        {"key": "gone", "wav": "gone.wav", "txt": "x", "task": "<TRANSCRIBE>"},
        {"key": "part", "wav": "你好.wav", "txt": "你好", "task": "<TRANSCRIBE>", "start": 0.2, "end": 0.7},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n{broken\n"
    (folder / "list.jsonl").write_text(text, encoding="utf-8")
    return folder


def osum(*args, cwd) -> subprocess.CompletedProcess:
    """`python -m mindspore_osum infer`, with the bytes of its output."""
    env = {k: v for k, v in os.environ.items() if k != "GLOG_v"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mindspore_osum", "infer", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=600)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_after_the_first_answer(number, status, files, model_folder, tmp_path):
    """One line with the command that goes on; what is answered stays, also if Ctrl-C is hit twice."""
    out = tmp_path / "out.jsonl"
    args = ["--model", model_folder, "--max-new-tokens", 8, "--batch-size", 1, "--output", out]
    names = [files / "a.wav", *(tmp_path / f"{n}.wav" for n in range(300))]
    for name in names[1:]:
        os.link(files / "你好.wav", name)
    command = [sys.executable, "-m", "mindspore_osum", "infer", *map(str, [*names, *args])]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    partial = Path(f"{out}.partial")
    while child.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.005)
    child.send_signal(number)
    if child.poll() is None:
        child.send_signal(number)
    _, said = child.communicate(timeout=60)
    *_, last = said.splitlines()
    assert child.returncode == status and "Traceback" not in said
    assert last.startswith("osum: interrupted; go on with")
    assert json.loads(partial.read_text("utf-8").splitlines()[0])["audio"] == str(files / "a.wav")


def test_json_lines(files, model_folder, tmp_path, monkeypatch, capfd):
    """Files and a manifest, good and bad ones; --output has the same lines, beside a table."""
    args = ["--model", model_folder, "--max-new-tokens", 8, "a.wav", "broken.wav", "你好.wav"]
    done = osum(*args, "--manifest", "list.jsonl", cwd=files)
    lines = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert done.returncode == 1
    assert [line["audio"] for line in lines] == [
        "a.wav",
        "broken.wav",
        "你好.wav",
        "a.wav",
        "gone.wav",
        "你好.wav",
    ]
    assert [line.get("key") for line in lines] == [None, None, None, "first", "gone", "part"]
    for n, line in enumerate(lines):
        assert line.keys() - {"key"} == ({"audio", "error"} if n in (1, 4) else FIELDS)
    assert [lines[n]["seconds"] for n in (0, 2, 3, 5)] == [0.5, 0.8, 0.5, 0.5]
    assert lines[0]["raw"] == lines[3]["raw"] and lines[2]["raw"] != lines[5]["raw"]
    errors = done.stderr.decode("utf-8")
    assert "osum: 3 failed:" in errors and "Traceback" not in errors
    assert (
        "broken.wav: not audio" in errors
        and "list.jsonl:2: " in errors
        and "list.jsonl:4: not a JSON" in errors
    )

    out = tmp_path / "out.jsonl"
    monkeypatch.chdir(files)
    assert main(["infer", *map(str, args[:-3]), "a.wav", "--output", str(out), "--table"]) == 0
    (line,) = map(json.loads, out.read_text("utf-8").splitlines())
    assert line | {"rtf": 0} == lines[0] | {"rtf": 0}
    head, row = capfd.readouterr().out.splitlines()
    assert head.split() == ["file", "s", "heard"] and row.startswith("a.wav  0.5  ")
    assert list(tmp_path.iterdir()) == [out]


def test_a_person_sees_a_table_and_a_bar(files, model_folder, monkeypatch):
    """On a terminal, without asking for them."""
    monkeypatch.chdir(files)
    shown = on_a_terminal("infer", "a.wav", "你好.wav", "--model", str(model_folder)).replace("\r", "\n")
    assert "\na.wav" in shown and "heard" in shown and "2/2 recordings [" in shown and '"audio"' not in shown


def test_folders_standard_input_and_resume(files, model_folder, tmp_path, monkeypatch, capfd):
    """An interrupted run goes on: what was answered stays, what failed or was cut off is done again."""
    out = tmp_path / "out.jsonl"
    kept = json.dumps({"audio": "a.wav", "text": "of the earlier run"}) + "\n"
    failed = json.dumps({"audio": "你好.wav", "error": "you interrupted me"}) + "\n"
    out.with_name("out.jsonl.partial").write_text(kept + failed + kept[:10], encoding="utf-8")
    monkeypatch.chdir(files)
    sound = io.TextIOWrapper(io.BytesIO((files / "a.wav").read_bytes()))
    monkeypatch.setattr(sys, "stdin", sound)
    how = ["--max-new-tokens", "2", "--model", str(model_folder), "--output", str(out), "--resume"]
    assert main(["infer", ".", "-", *how]) == 1
    assert "osum: 1 recordings are there already" in capfd.readouterr().err
    text = out.read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert text.startswith(kept)
    assert [line["audio"] for line in lines] == ["a.wav", "broken.wav", "你好.wav", "-"]
    assert ["error" in line for line in lines] == [False, True, False, False]
    assert list(tmp_path.iterdir()) == [out]


def test_channels(files, model_folder, tmp_path, monkeypatch, capfd):
    """Each is answered as a recording of its own, in a line of its own; one channel has no name."""
    monkeypatch.chdir(tmp_path)
    left, rate = soundfile.read(files / "a.wav")
    soundfile.write("call.wav", np.stack([left, left[::-1]], 1), rate, "FLOAT")
    soundfile.write("right.wav", left[::-1], rate, "FLOAT")
    soundfile.write("left.wav", left, rate, "FLOAT")
    how = [
        "--max-new-tokens",
        "2",
        "--model",
        str(model_folder),
        "--output",
        "out.jsonl",
        "--channels",
        "split",
    ]
    address = "https://example.org/a.wav?x=1"
    assert main(["infer", "call.wav", "left.wav", "right.wav", address, *how]) == 1
    lines = [json.loads(line) for line in open("out.jsonl", encoding="utf-8")]
    named = [(line["audio"], line.get("channel")) for line in lines]
    assert named[:2] == [("call.wav", "left"), ("call.wav", "right")]
    assert named[2:] == [("left.wav", None), ("right.wav", None), (address, None)]
    assert [line["raw"] for line in lines[:2]] == [line["raw"] for line in lines[2:4]]
    assert "only addresses of object stores (s3, oss, obs) are fetched; download it" in lines[4]["error"]
    assert main(["infer", "call.wav", *how, "--resume"]) == 0
    assert "osum: 4 recordings are there already" in capfd.readouterr().err
    assert main(["infer", "left.wav", *how[:4], "--channels", "right"]) == 1
    assert "left.wav" in capfd.readouterr().err


def test_nothing_is_left_of_a_run_without_a_line(files, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(files)
    assert main(["infer", "a.wav", "--model", "nowhere", "--output", str(tmp_path / "out.jsonl")]) == 1
    assert not list(tmp_path.iterdir())


def test_the_core_needs_no_other_framework(files, model_folder):
    code = (
        "import sys; from mindspore_osum.cli import main; status = main(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(status)"
    )
    args = ["infer", "a.wav", "--model", str(model_folder), "--max-new-tokens", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=files, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.splitlines()[-1].split())
    assert "mindspore" in modules
    assert not modules & {"mindformers", "mindnlp", "torch", "transformers", "tensorflow"}
    assert len(done.stdout.splitlines()) == 1


def test_script(files):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/infer.py"], cwd=files, capture_output=True, text=True
    )
    assert done.returncode == 1
    message = "osum: no recordings: give files, folders, - or --manifest FILE.jsonl"
    assert done.stderr.splitlines()[-1] == message


@pytest.mark.parametrize(
    "args, status, message",
    [
        ([], 1, "osum: no recordings"),
        (["a.wav", "--model", "nowhere"], 1, "nowhere: no such model folder"),
        (["a.wav", "--task", "asrr"], 1, "task 'asrr': choose one of"),
        (["a.wav", "--resume"], 1, "--resume continues the file of --output"),
        (["a.wav", "--top-p", "2"], 1, "top_p 2.0: must be above 0 and at most 1"),
        (["a.wav", "--batch-size", "0"], 1, "batch_size 0: must be 1 or more"),
        (["a.wav", "--beams", "4", "--temperature", "1"], 1, "beams 4: with a temperature, the best tokens"),
        (["a.wav", "--patience", "2"], 1, "are of a beam search; give beams, too"),
        (["a.wav", "--beam_size", "5"], 2, "did you mean '--beams'?"),
        (["--manifest", "x.jsonl", "--channels", "left"], 1, "--channels is for recordings"),
        (["--manifest", "nowhere.jsonl"], 1, "nowhere.jsonl: cannot read the manifest"),
        (["a.wav", "--output", "nowhere/out.jsonl"], 1, "nowhere/out.jsonl: cannot write there"),
        (["a.wav", "--task", "asr", "--instruction", "x"], 2, "not allowed with argument"),
        (["a.wav", "--device", "GPU"], 2, "device 'GPU' is unknown"),
    ],
)
def test_mistakes_are_one_line(args, status, message, model_folder, capfd):
    model = [] if "--model" in args else ["--model", str(model_folder)]
    assert main(["infer", *args, *model]) == status
    printed = capfd.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert printed.out == ""


def test_the_bundled_model_is_the_default(capfd):
    assert main(["infer", "--help"]) == 0
    assert "bundled" in capfd.readouterr().out
    assert BUNDLED.parent.parent == ROOT / "mindspore_osum"


def heard(audio="x.wav", seconds=1.25, error=None, **parts) -> Response:
    return Response(audio, seconds, [Answer(0.0, seconds, **parts)], error=error)


def line(key: str, txt: str, task: str = "<TRANSCRIBE>") -> Utterance:
    return Utterance(key, "x.wav", txt, task)


def test_table():
    """Wide characters take two places; references and marks for manifest lines."""
    pairs = [
        (line("one", "你好 世界"), heard(text="你好，世界")),
        (line("second", "good  bye"), heard(text="good buy")),
        ("c.wav", heard(audio="c.wav", text="是", labels={"age": "OLD"}, seconds=12.0)),
        ("d.wav", heard(audio="d.wav", error="d.wav: no such audio file")),
    ]
    assert table(pairs, make_request()).splitlines() == [
        "file       s      heard                             reference",
        "one      1.2  ok  你好，世界                        你好 世界",
        "second   1.2  X   good buy                          good bye",
        "c.wav   12.0      是 <OLD>",
        "d.wav             error: d.wav: no such audio file",
    ]
    assert table(pairs[2:3], make_request()).splitlines() == ["file      s  heard", "c.wav  12.0  是 <OLD>"]
    assert width("a你é") == 4


def test_table_of_own_tasks():
    """With no task for all, each manifest line is asked its own, which is shown; words have their starts."""
    timed = [("turn", 0.1, 0.4), ("on", 0.4, 0.55)]
    pairs = [
        (
            line("one", "good bye<SAD>", "<TRANSCRIBE> <EMOTION>"),
            heard(text="good bye", labels={"emotion": "FEAR"}),
        ),
        (
            line("two", "<0.08>turn<0.40><0.40>on<0.56>", "<TRANSCRIBE> <ALIGN>"),
            heard(text="turn on", words=timed),
        ),
        (line("three", "tokyo", "<S2TCHAT>"), heard(answer="Tokyo")),
        ("c.wav", heard(audio="c.wav", text="hi")),
    ]
    assert table(pairs, None).splitlines() == [
        "file   task              s      heard              reference",
        "one    <asr><emotion>  1.2  X   good bye <FEAR>    good bye <SAD>",
        "two    <asr><align>    1.2  ok  0.10 turn 0.40 on  0.08 turn 0.40 on",
        "three  <chat>          1.2  ok  Tokyo              tokyo",
        "c.wav  <asr>           1.2      hi",
    ]


def test_a_manifest_line_that_cannot_be_asked_is_named(tmp_path, model_folder, capfd):
    (tmp_path / "list.jsonl").write_text('{"key": "a", "wav": "a.wav", "txt": "x", "task": "<SING>"}\n')
    assert main(["infer", "--manifest", str(tmp_path / "list.jsonl"), "--model", str(model_folder)]) == 1
    assert "list.jsonl:1: task '<SING>': choose one of" in capfd.readouterr().err


@pytest.mark.parametrize(
    "result, txt, task, same",
    [
        ({"text": "Hello, world!"}, "hello world", "asr", True),
        ({"text": "hello word"}, "hello world", "asr", False),
        ({"text": "hello"}, "hello<ADULT>", "asr", True),  # the label was not asked for
        ({"text": "hello", "labels": {"age": "ADULT"}}, "hello<ADULT>", "sap", True),
        ({"text": "hello", "labels": {"age": "OLD"}}, "hello<ADULT>", "sap", False),
        ({"text": "hello"}, "hello<ADULT>", "sap", False),
        ({"text": "one two"}, "<0.10>one<0.20> <0.20>two<0.50>", "srwt", True),
        ({"answer": "fine"}, "fine", "sttc", True),
        ({"text": "hello", "error": "no"}, "hello", "asr", False),
    ],
)
def test_agreement_with_a_reference(result, txt, task, same):
    assert agrees(heard(**result), line("k", txt), make_request(task)) == same
