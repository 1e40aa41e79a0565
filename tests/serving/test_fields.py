"""What clients send, before a server sees it."""

import base64
import json

import pytest

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.app import Api  # noqa: E402
from mindspore_osum.serving.bodies import ApiError  # noqa: E402
from mindspore_osum.serving.chats import ChatRequest  # noqa: E402
from mindspore_osum.serving.fields import MAX_VALUES, read_json, read_model  # noqa: E402


@pytest.mark.parametrize("item", [b"{}", b"[]", b"0", b'{"a":0}'])
def test_bodies_of_very_many_values_are_not_parsed(item, monkeypatch):
    body = b'{"content":[' + b",".join([item] * (MAX_VALUES + 1)) + b"]}"
    assert len(read_json(b'{"content":[' + b",".join([item] * (MAX_VALUES // 10)) + b"]}")["content"])
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(ApiError, match="more than 100000 values") as caught:
        read_json(body)
    assert caught.value.status == 400


def test_long_recordings_are_not_many_values():
    data = base64.b64encode(bytes(range(256)) * 40_000).decode()
    assert read_json(json.dumps({"data": data}).encode()) == {"data": data}


def test_what_is_repeated_to_a_client_is_bounded(monkeypatch):
    """A name of 30 MB was compared with the model's for 20 s, in 1.4 GB, and sent back; so was a field."""
    monkeypatch.setattr("difflib.get_close_matches", None)
    name = "x\n" * 1_000_000
    with pytest.raises(ApiError) as caught:
        Api(None, None, ["tiny"], None)._check_model(name)
    assert len(str(caught.value)) <= 2000 and str(caught.value).isprintable()
    with pytest.raises(ApiError) as caught:
        read_model(ChatRequest, {name: 1, "model": "tiny", "messages": [{"role": "user", "content": "a"}]})
    assert len(str(caught.value)) <= 2000 and len(caught.value.param) <= 80


@pytest.mark.parametrize("words", ["a " * 10_001, ["a"] * 20_001])
def test_hotwords_are_few(words):
    """30 MB of them took seconds, in which nobody else was answered."""
    chat = read_model(
        ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "a"}], "hotwords": words}
    )
    with pytest.raises(ApiError, match="at most 20000 are read"):
        chat.job(1)
