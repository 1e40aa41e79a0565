"""Names from files are shown as one line of bounded length, in messages, tables and progress."""

import time

import pytest

from ckpt_convert.report import Report
from mindspore_osum.commands.console import align, failures, say
from mindspore_osum.errors import NAME, UserError, is_plain, one_line
from mindspore_osum.results import Response

EVIL = "a\r\n\x1b[2J\x9b\u2028\u202e\ud800b"


def test_what_steers_a_terminal_is_escaped():
    assert one_line(EVIL) == "a\\r\\n\\x1b[2J\\x9b\\u2028\\u202e\\ud800b" == str(UserError(EVIL))
    assert not is_plain(EVIL) and is_plain("décodeur.层 0")
    assert one_line("décodeur.层 0") == "décodeur.层 0"


@pytest.mark.parametrize("most", [NAME, 2000])
def test_length_is_bounded(most):
    start = time.process_time()
    for text in ("x" * 10**7, "\n" * 10**7, "x" * (most + 1), "\n" * (most - 1)):
        assert len(one_line("a" + text + "z", most)) <= most
        assert one_line("a" + text + "z", most)[::-1][0] == "z"
    assert one_line("x" * most, most) == "x" * most
    assert time.process_time() - start < 1


def test_tables_progress_and_answers(capsys):
    report = Report(EVIL, "out", {"a": "b"}, {EVIL: "why"}, missing=[EVIL, "x" * 10**6], notes=[EVIL])
    say(EVIL)
    assert failures([EVIL, "b"]) == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"osum: {one_line(EVIL)}", "osum: 2 failed:", f"  {one_line(EVIL)}", "  b"]
    tables = [report.table(), align([("file", "heard"), (EVIL, "x" * 3000)]), str(Response(EVIL, 1.0, []))]
    for text in tables:
        assert all(is_plain(line) for line in text.split("\n"))
    assert "x" * 3000 in tables[1] and "x" * NAME not in tables[0]
