"""`osum serve` before it serves: every mistake is one line, and no model is loaded for it."""

import argparse
import os
import socket
import sys
from importlib.util import find_spec

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
    from mindspore_osum.serving.bodies import Limits
    from mindspore_osum.serving.served import Served

    monkeypatch.setenv("OSUM_GRAPHS_GB", "1e-6")
    served = Served("tiny", "CPU", ("tiny",), Limits(max_new_tokens=4), 1, 0.0, 30.0, 60.0, warm_up=(1.0,))
    _load(argparse.Namespace(warm_up="1"), served, lambda stage: None)
    *_, line = capsys.readouterr().err.splitlines()
    assert "warning: --warm-up 1: these graphs take more than 0.0 GB" in line and "OSUM_GRAPHS_GB" in line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--replicas", "2"], "--replicas: goes with --engine ray"),
        (["--address", "auto"], "--address: goes with --engine ray"),
        (["--engine", "ray", "--replicas", "-1"], "--replicas -1: must be 1 or more"),
        (["--engine", "ray", "--replicas", "0"], "--replicas 0: takes replicas away from a cluster"),
        (["--engine", "ray", "--log-requests"], "--log-requests: replicas have no standard error"),
        (["--engine", "ray", "--address", "auto", "--port", "0"], "--port 0: a cluster's port must be known"),
        (["--engine", "ray"], "no-such-folder: no such model folder"),
        (["--engine", "ray", "--model", "tiny", "--host", "0.0.0.0"], "--token-file"),
        (["--engine", "ray", "--model", "tiny", "--host", "::", "--address", "auto"], "--token-file"),
    ],
)
def test_mistakes_of_replicas(refused, monkeypatch, args, says):
    """Found before a cluster is started or joined."""
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert says in refused(*args)


def test_replicas_at_a_port_in_use(refused):
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}: cannot bind it" in refused("--engine", "ray", "--model", "tiny", "--port", port)


def test_replicas_without_ray_or_at_a_dead_address(refused, monkeypatch):
    pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    place = ("--engine", "ray", "--model", "tiny", "--address")
    if find_spec("ray"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            assert "no cluster answers there" in refused(*place, f"127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert "install the extra" in refused(*place, "127.0.0.1:6379")


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_missing_packages(refused, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = refused()
    assert package in message and 'pip install "mindspore_osum[serve]"' in message
