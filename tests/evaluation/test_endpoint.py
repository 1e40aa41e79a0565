"""The client of OpenAI-compatible servers, against a real one on this machine."""

import json
import time

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.endpoint import Endpoint, Unavailable

SECRET = "sk-not-to-be-told"


def endpoint(server, **options) -> Endpoint:
    return Endpoint(**{"url": server.url, "model": "judge-1", "key": SECRET, "pause_s": 0.01} | options)


def test_speaks_the_protocol(chat_server):
    chat_server.reply = lambda prompt: f"heard: {prompt}"
    assert endpoint(chat_server).ask("Who? 谁 {x}") == "heard: Who? 谁 {x}"
    ((headers, body),) = chat_server.requests
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "model": "judge-1",
        "temperature": 0,
        "messages": [{"role": "user", "content": "Who? 谁 {x}"}],
    }


def test_without_a_key_nothing_is_sent_for_one(chat_server):
    endpoint(chat_server, key=None).ask("x")
    assert "Authorization" not in chat_server.requests[0][0]


def test_the_full_address_is_taken_too(chat_server):
    assert endpoint(chat_server, url=chat_server.url + "/chat/completions").ask("x")
    assert endpoint(chat_server, url=chat_server.url + "/").ask("x")


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}, b"oops"),
        (429, {}, b"{}"),
        (503, {}, b""),
        (200, {}, b"not json"),
        (200, {}, b"[]"),
        (200, {}, b'{"choices": []}'),
        (200, {}, json.dumps({"choices": [{"message": {"content": None}}]}).encode()),
        (200, {}, json.dumps({"choices": [{"message": {"content": " "}}]}).encode()),
        (200, {"Content-Length": "9999", "Connection": "close"}, b"{"),
    ],
)
def test_passing_troubles_are_tried_again(chat_server, trouble):
    chat_server.troubles = [trouble, trouble]
    chat_server.reply = lambda prompt: "at last"
    assert endpoint(chat_server, timeout_s=1.0).ask("x") == "at last"
    assert len(chat_server.requests) == 3


def test_the_server_says_when_to_come_back(chat_server):
    chat_server.troubles = [(429, {"Retry-After": "1"}, b"{}")]
    start = time.monotonic()
    endpoint(chat_server).ask("x")
    assert time.monotonic() - start >= 1


def test_gives_up_after_all_tries(chat_server):
    chat_server.troubles = [(500, {}, b"still broken")] * 9
    with pytest.raises(Unavailable, match="HTTP 500: still broken"):
        endpoint(chat_server, tries=3).ask("x")
    assert len(chat_server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final(chat_server, status):
    chat_server.troubles = [(status, {}, b'{"error": {"message": "no"}}')]
    with pytest.raises(UserError, match=f"HTTP {status}.*no.*check address, model and key") as error:
        endpoint(chat_server).ask("x")
    assert len(chat_server.requests) == 1
    assert SECRET not in str(error.value)


def test_redirects_would_take_the_key_elsewhere(chat_server):
    chat_server.troubles = [(307, {"Location": "http://127.0.0.1:1/v1/chat/completions"}, b"")]
    with pytest.raises(UserError, match="HTTP 307"):
        endpoint(chat_server).ask("x")


def test_nobody_listens():
    with pytest.raises(Unavailable):
        Endpoint("http://127.0.0.1:1/v1", "m", tries=2, pause_s=0.01).ask("x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.deepseek.com",
        "file:///etc/passwd",
        "http://",
        "ftp://x/v1",
        "http://[::1/v1",
        "http://x:99999",
    ],
)
def test_impossible_addresses(url):
    with pytest.raises(UserError, match="judge address"):
        Endpoint(url, "m")


def test_impossible_keys():
    with pytest.raises(UserError, match="judge key") as error:
        Endpoint("http://x/v1", "m", key=SECRET + "\n")
    assert SECRET not in str(error.value)


def test_the_key_is_not_shown():
    assert SECRET not in repr(Endpoint("http://x/v1", "m", key=SECRET))
