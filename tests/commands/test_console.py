"""Progress where nobody looks; a table; standard output that is kept clean."""

import os
import re
import resource

import pytest

from mindspore_osum.commands import console, jsonl
from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response


def test_progress_is_a_line_now_and_then(monkeypatch, capsys):
    """None before `EVERY` seconds, then one for so many, with what is done and what is left."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Progress(40) as progress:
        for _ in range(25):
            now[0] += 1.0
            progress()
    assert capsys.readouterr().err.splitlines() == [
        "osum: 10 of 40 recordings, 10 s, about 30 s to go",
        "osum: 20 of 40 recordings, 20 s, about 20 s to go",
    ]


@pytest.mark.parametrize("unit", console.UNITS)
def test_progress_is_a_bar_on_a_terminal(unit, monkeypatch, capsys):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    with console.Progress(4.2, unit) as progress:
        progress(1.4)
        progress.clear()
        progress(2.8)
    assert re.search(rf"4/4 {console.UNITS[unit]} \[", capsys.readouterr().err)


def test_failures_are_the_exit_status(capsys):
    assert console.failures([]) == 0 and capsys.readouterr().err == ""
    assert console.failures(["a: no", "b: no"]) == 1
    assert capsys.readouterr().err == "osum: 2 failed:\n  a: no\n  b: no\n"


def test_standard_output_holds_results_only(capfd):
    """What a library writes to descriptor 1 goes to standard error; afterwards it is as before."""
    with console.clean_stdout() as stdout:
        os.write(1, b"chatter\n")
        print("result \udcff 好", file=stdout)
    os.write(1, b"after\n")
    out, err = capfd.readouterr()
    assert out == "result \\udcff 好\nafter\n" and err == "chatter\n"


def test_standard_output_on_a_full_disk():
    before, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    try:
        with pytest.raises(UserError, match="^standard output: cannot write there .No space left"):
            with console.clean_stdout() as stdout:
                print("result", file=stdout, flush=True)
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(full)


def test_lines_on_a_full_disk(tmp_path):
    """The complete ones are kept, and the message has the command that goes on."""
    out, limit = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    console.interrupted.begin(["infer", "a.wav"])
    try:
        with pytest.raises(UserError) as error, jsonl.writing(str(out), {}) as write:
            write('{"audio": "a"}')
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limit[1]))
            write('{"audio": "b"}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    how = "what is done is kept, go on with: osum infer a.wav --resume"
    assert str(error.value) == f"{out}: cannot write there (File too large); {how}"
    assert jsonl.kept_lines(str(out), lambda line: line["audio"], "infer") == {"a": '{"audio": "a"}\n'}


def test_waits_are_one_line(monkeypatch, capsys):
    console.waiting("graph", 1, 2)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    console.waiting("weights", 5_000_000, 10_000_000)
    console.waiting("graph", 2, 4)
    console.waiting("", 0, 0)
    lines = capsys.readouterr().err.split("\r\x1b[K")
    assert lines == ["", "reading weights, 5 of 10 MB", "compiling graph 2 of 4 for this length", ""]


@pytest.mark.parametrize("terminal", [False, True])
def test_compiling_is_no_progress(terminal, monkeypatch, capsys):
    """What is left is what was measured on answers; nothing is said before there was one."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: terminal)
    with console.Progress(40) as progress:
        now[0] += 60
        progress(0)
        console.waiting("graph", 1, 2)
        now[0] += 300
        console.waiting("", 0, 0)
        now[0] += 60
        progress(20)
        if terminal:
            assert progress._bar.start_t - progress._bar.last_print_t <= 300 and progress._start == 400
    if not terminal:
        assert capsys.readouterr().err.splitlines() == [
            "osum: 0 of 40 recordings, 60 s",
            "osum: 20 of 40 recordings, 120 s, about 120 s to go",
        ]


def test_nothing_is_left_of_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), jsonl.writing(str(tmp_path / "out.jsonl"), {}):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_is_doubtful_is_said(capsys):
    console.warn(Response("a.wav", segments=[Answer(warnings=["a loop"], cut=True)]))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "osum: a.wav: a loop" and "truncated" in second


def test_tables_are_aligned_by_what_a_terminal_shows():
    rows = [("file", "s", "heard"), ("你好", "1.5", "yes"), ("e\u0301", "12.0", "")]
    assert console.align(rows, right="s").splitlines() == [
        "file     s  heard",
        "你好   1.5  yes",
        "e\u0301     12.0",
    ]
