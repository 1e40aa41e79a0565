"""`osum serve` before it serves: every mistake is one line, and no model is loaded for it."""

import argparse
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
        (["--max-body", "1"], "--max-body 1: takes 262 s even of MP3"),
        (["--cors-origin", "https://example.org/"], "expected an origin like https://example.org"),
        (["--max-audio", "inf"], "--max-audio inf"),
        (["--log-requests", "gone/requests.log"], "--log-requests gone/requests.log: cannot write it"),
        (["--name", "x", "--alias", "whisper-1=y"], "--alias whisper-1=y: expected NAME or NAME=x"),
        (["--max-seconds", "90"], "max_seconds 90"),
        (["--max-new-tokens", "0"], "max_new_tokens 0"),
        (["--warm-up", "2,x"], "expected comma-separated seconds"),
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


def test_a_kind_of_address_that_is_off(refused, monkeypatch):
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

    def off(*args):
        raise OSError(97, "Address family not supported")

    monkeypatch.setattr("socket.socket", off)
    assert "::1 port 8000: cannot bind it (Address family not supported)" in refused("--host", "::1")


def test_a_warm_up_that_the_model_refuses(monkeypatch, capsys):
    """Too short, and nothing would be compiled; with the bundled model."""
    pytest.importorskip("uvicorn", reason="needs uvicorn (extra serve)")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["serve", "--port", "0", "--warm-up", "0.00001"]) == 1
    loading, opened, compiling, line = capsys.readouterr().err.splitlines()
    assert "loading" in loading and " is open; " in opened and "compiling" in compiling
    assert line.startswith("osum: --warm-up 1e-05: ")


def test_a_warm_up_that_cannot_be_kept(monkeypatch, capsys):
    """One line before it answers; with the bundled model."""
    from mindspore_osum.commands.serve import _load

    monkeypatch.setenv("OSUM_GRAPHS_GB", "1e-6")
    args = argparse.Namespace(model="tiny", device="CPU", warm_up="1", batch_size=1, max_new_tokens=4)
    _load(args, [1.0], lambda stage: None)
    *_, line = capsys.readouterr().err.splitlines()
    assert "warning: --warm-up 1: these graphs take more than 0.0 GB" in line and "OSUM_GRAPHS_GB" in line


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_missing_packages(refused, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = refused()
    assert package in message and 'pip install "mindspore_osum[serve]"' in message
