"""What a command line names."""

import io
from types import SimpleNamespace

import pytest

from mindspore_osum.commands import inputs
from mindspore_osum.errors import UserError


def test_standard_input_is_capped(monkeypatch):
    monkeypatch.setattr(inputs, "MAX_STDIN_BYTES", 4)
    monkeypatch.setattr(inputs.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"1234")))
    assert inputs.expand(["-"])[0].read() == b"1234"
    monkeypatch.setattr(inputs.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"12345")))
    with pytest.raises(UserError, match="standard input: over 0 MiB; give the recording as a file"):
        inputs.expand(["-"])
