"""`osum serve` before it serves: every mistake is one line, and no model is loaded for it."""

import socket
import sys

import pytest

from mindspore_osum.cli import main


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("OSUM_TOKEN", raising=False)


@pytest.fixture
def refused(capsys):
    """refused(*args) -> the one line of `osum serve`."""

    def run(*args: str) -> str:
        assert main(["serve", "--model", "no-such-folder", *args]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("osum: ")
        return captured.err

    return run


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--host", "0.0.0.0"], "others could reach the model there; give --token-file"),
        (["--host", "::"], "--token-file"),
        (["--host", "no such host"], "no such address"),
        (["--port", "70000"], "--port 70000"),
        (["--queue", "0"], "--queue 0"),
        (["--max-body", "nan"], "--max-body nan"),
        (["--max-seconds", "90"], "max_seconds 90"),
        (["--max-new-tokens", "0"], "max_new_tokens 0"),
        (["--warm-up", "2,x"], "expected seconds"),
        (["--warm-up", "2,31"], "at most --max-seconds"),
        (["--token-file", "gone.txt"], "gone.txt: cannot read"),
    ],
)
def test_mistakes(refused, args, says):
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")
    assert says in refused(*args)


@pytest.mark.parametrize("token", ["", " \n", "two words", "日本"])
def test_tokens_that_cannot_be_sent(refused, tmp_path, token, monkeypatch):
    path = tmp_path / "token.txt"
    path.write_text(token, encoding="utf-8")
    assert "visible ASCII" in refused("--token-file", str(path))
    monkeypatch.setenv("OSUM_TOKEN", token)
    assert "OSUM_TOKEN: the token must be" in refused()


def test_a_port_in_use(refused):
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1 port {port}: cannot bind it" in refused("--port", port)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_missing_packages(refused, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = refused()
    assert package in message and 'pip install "mindspore_osum[serve]"' in message
