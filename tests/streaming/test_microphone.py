"""The queue behind the microphone, whose other end is PortAudio's thread; no device is needed for it."""

from types import SimpleNamespace

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.streaming import microphone
from mindspore_osum.streaming.microphone import Waiting

FINE, OVERFLOW = SimpleNamespace(input_overflow=False), SimpleNamespace(input_overflow=True)


@pytest.fixture
def waiting(monkeypatch):
    """Room for three pieces, and no long wait for the next one."""
    monkeypatch.setattr(microphone, "_WAITING", 3)
    monkeypatch.setattr(microphone, "_SILENT_SECONDS", 0.01)
    return Waiting()


def heard(waiting, active) -> tuple[list[bytes], str]:
    """What comes until the end, and the error that is the end."""
    got = []
    with pytest.raises(UserError) as error:
        for data in waiting.pieces(active):
            got.append(data)
    return got, str(error.value)


def test_who_falls_behind_is_told(waiting):
    """What was heard before the loss comes first, what follows it never."""
    for n in range(5):
        waiting.take(bytes([n]), 1, None, FINE)
    pieces = waiting.pieces(lambda: True)
    first = next(pieces)
    waiting.take(b"\x05", 1, None, FINE)  # there is room again, behind a hole
    got, error = heard(waiting, lambda: True)
    assert [first, *got] == [b"\x00", b"\x01", b"\x02"]
    assert error.startswith("the microphone: sound was lost")


def test_what_the_device_loses_is_told(waiting):
    for data, status in ((b"a", FINE), (b"b", OVERFLOW), (b"c", FINE)):
        waiting.take(data, 1, None, status)
    got, error = heard(waiting, lambda: True)
    assert got == [b"a"] and "sound was lost" in error


def test_a_microphone_that_goes_away_ends_the_stream(waiting):
    """A silent one does not."""
    looks = iter([True, True, False])
    waiting.take(b"a", 1, None, FINE)
    assert heard(waiting, lambda: next(looks)) == ([b"a"], "the microphone stopped; is it still connected?")
    assert next(looks, None) is None
