"""`osum demo` as a process, asked by gradio's own client over HTTP."""

import re
import signal
import socket
import sys
import wave

import pytest

from mindspore_osum.cli import main
from mindspore_osum.commands.demo import _without_proxy
from tests.demo.browser import RECORDINGS, demo
from tests.inference.common import small_folder

pytest.importorskip("gradio_client", reason="needs gradio (extra demo)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def running(folder):
    """(process, address) of a demo with narrow limits, where all else goes through a proxy that is down."""
    limits = ["--max-body", "0.5", "--max-audio", "4", "--max-new-tokens", "8"]
    with demo("--model", folder, *limits, http_proxy="http://127.0.0.1:9", NO_PROXY="a.example") as found:
        yield found


@pytest.fixture(scope="module")
def listen(running):
    """listen(path, choice, words="") -> the answer's parts."""
    from gradio_client import Client, handle_file

    client = Client(running[1], verbose=False)

    def ask(path, choice, words=""):
        audio = handle_file(str(path)) if path else None
        return client.predict(audio, choice, words, api_name="/listen")

    return ask


@pytest.fixture(scope="module")
def model(folder):
    from mindspore_osum import OSUM

    return OSUM.load(folder)


@pytest.mark.parametrize(("choice", "words"), [("sap", ""), ("words", "What does the speaker say?")])
def test_answers_are_the_model_s(listen, model, choice, words):
    from mindspore_osum.inference.sampling import Sampling

    asked = {"request": words} if choice == "words" else {"task": choice}
    expected = model(str(RECORDINGS[0]), **asked, sampling=Sampling(max_new_tokens=8), probabilities=True)
    text, played, labels, picture, values = listen(RECORDINGS[0], choice, words)
    assert values["audio"] == RECORDINGS[0].name and values["raw"] == expected.raw
    assert text == expected.text.strip()
    assert values["labels"] == expected.labels
    assert ("osum-word" in played) == bool(expected.text) and ("No label" in labels) == (not expected.labels)
    assert picture


def test_the_recording_can_be_played(listen, running):
    import httpx

    (url,) = re.findall(r'<audio src="([^"]+)"', listen(RECORDINGS[0], "sap")[1])
    assert httpx.get(running[1] + url).content == RECORDINGS[0].read_bytes()


def silence(path, seconds: float):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(16_000 * seconds)))
    return path


@pytest.mark.parametrize(
    ("make", "choice", "words", "message"),
    [
        (lambda tmp: None, "asr", "", "no recording"),
        (lambda tmp: silence(tmp / "long.wav", 5), "asr", "", "5 s of sound: this page takes 4 s"),
        (lambda tmp: silence(tmp / "a.wav", 1), "words", " ", "the instruction is empty"),
        (lambda tmp: silence(tmp / "a.wav", 1), "words", "x" * 501, "this page takes 500"),
        (lambda tmp: RECORDINGS[0].with_name("manifest.jsonl"), "asr", "", "not audio that can be read"),
    ],
)
def test_what_is_refused(listen, tmp_path, make, choice, words, message):
    with pytest.raises(Exception, match=message) as error:
        listen(make(tmp_path), choice, words)
    assert "Traceback" not in str(error.value)


def test_files_beyond_the_cap_are_refused(running, tmp_path):
    import httpx

    def upload(seconds: float):
        file = silence(tmp_path / "a.wav", seconds).read_bytes()
        return httpx.post(f"{running[1]}/gradio_api/upload", files={"files": ("a.wav", file)}, timeout=60)

    assert upload(10).status_code == 200
    assert upload(20).status_code == 413


def test_only_this_machine_reaches_it(running):
    port = int(running[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):  # which a server on all addresses would accept
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_nothing_is_fetched_from_elsewhere_and_it_stops(running):
    """Last: the process ends."""
    import httpx

    process, url = running
    page = httpx.get(url).text
    assert "osum-word" in page and "fonts.googleapis" not in page
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and said.endswith("osum: stopped\n"), said
    assert "Traceback" not in said


def test_a_taken_port_is_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    assert f"127.0.0.1 port {port}: cannot bind it" in capsys.readouterr().err


def test_a_port_that_is_taken_while_the_model_is_loaded(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("mindspore_osum.commands.demo._free_port", lambda port: port)
        monkeypatch.setattr("mindspore_osum.api.OSUM.load", lambda *_: None)
        monkeypatch.setattr("signal.signal", lambda *_: None)
        assert main(["demo", "--port", str(port)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"osum: 127.0.0.1 port {port}: it was taken meanwhile; take another"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "a.example"}, "a.example,127.0.0.1"),
        ({"NO_PROXY": "a.example", "no_proxy": "b.example"}, "b.example,127.0.0.1"),
    ],
)
def test_proxies_are_for_others(env, expected):
    assert _without_proxy(env) == {"no_proxy": expected, "NO_PROXY": expected}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--port", "70000"], "--port 70000: not a possible port"),
        (["--max-audio", "0"], "--max-audio 0.0: must be above 0"),
        (["--max-seconds", "99"], "max_seconds 99: chunks are"),
    ],
)
def test_impossible_settings(args, message, capsys):
    assert main(["demo", *args]) == 1
    assert message in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    assert 'pip install "mindspore_osum[demo]"' in capsys.readouterr().err
