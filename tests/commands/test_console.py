"""Progress where nobody looks; a table; standard output that is kept clean."""

import os
import re

import pytest

from mindspore_osum.commands import console


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


def test_tables_are_aligned_by_what_a_terminal_shows():
    rows = [("file", "s", "heard"), ("你好", "1.5", "yes"), ("e\u0301", "12.0", "")]
    assert console.align(rows, right="s").splitlines() == [
        "file     s  heard",
        "你好   1.5  yes",
        "e\u0301     12.0",
    ]
