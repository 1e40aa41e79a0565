"""What clients send, before a server sees it."""

import base64
import json

import pytest

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.bodies import ApiError  # noqa: E402
from mindspore_osum.serving.fields import MAX_VALUES, read_json  # noqa: E402


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
