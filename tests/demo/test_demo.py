"""`osum demo` as a process, asked by gradio's own client over HTTP."""

import re
import signal
import socket
import sys
import wave
from html import escape
from threading import Event

import pytest

from mindspore_osum.cli import main
from mindspore_osum.commands.demo import _without_proxy
from mindspore_osum.demo.listener import Asked, Limits, Listener
from mindspore_osum.demo.texts import Texts
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import LABEL_SETS, TASKS
from tests.demo.browser import RECORDINGS, demo
from tests.inference.common import small_folder

FIELDS = {labels.field for labels in LABEL_SETS.values()}

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
def ask(running):
    """ask(path, task, words="", hotwords="", language="en") -> the stages of an answer."""
    from gradio_client import Client, handle_file

    def of(language: str) -> Client:
        return Client(running[1], verbose=False, headers={"accept-language": language})

    clients = {"en": of("en"), "zh": of("zh-CN,zh;q=0.9")}

    def ask(path, task, words="", hotwords="", language="en"):
        audio = handle_file(str(path)) if path else None
        job = clients[language].submit(audio, task, words, hotwords, api_name="/listen")
        job.result()
        return job.outputs()

    return ask


@pytest.fixture(scope="module")
def listen(ask):
    """As `ask`, for the last stage with the picture, which an earlier one has."""

    def last(*args, **named):
        *before, (status, text, played, labels, _, values) = ask(*args, **named)
        return status, text, played, labels, next(filter(None, map(picture, before)), None), values

    return last


def picture(stage):
    """The path of a stage's picture, None where it leaves the one there was or has none."""
    return stage[4] if isinstance(stage[4], str) else None


@pytest.fixture(scope="module")
def model(folder):
    from mindspore_osum import OSUM

    return OSUM.load(folder)


@pytest.mark.parametrize(
    ("task", "words", "hotwords"),
    [("asr", "谁在说话？", "北京,Anna"), ("sgc", " ", "")],
)
def test_answers_are_the_model_s_and_words_go_before_the_task(listen, model, running, task, words, hotwords):
    import httpx

    from mindspore_osum.inference.sampling import Sampling

    asked = {"request": words} if words.strip() else {"task": task}
    how = {"sampling": Sampling(max_new_tokens=8), "probabilities": True, "hotwords": hotwords}
    expected = model(str(RECORDINGS[0]), **asked, **how)
    status, text, played, labels, shown, values = listen(RECORDINGS[0], task, words, hotwords)
    assert values["audio"] == RECORDINGS[0].name and values["raw"] == expected.raw
    assert text == expected.text.strip()
    assert values["labels"] == expected.labels and values["warnings"] == expected.warnings
    assert ("osum-word" in played) == bool(expected.text)
    assert ("osum-labels" in labels) == bool(expected.labels)
    assert escape(words.strip() or TASKS[task].name) in status and escape(hotwords) in status
    assert all(escape(line) in status for line in expected.warnings)
    assert shown
    for url in re.findall(r'data-audio="([^"]+)"', played):
        assert httpx.get(running[1] + url).content == RECORDINGS[0].read_bytes()


def test_all_eight_tasks_come_pass_by_pass(ask):
    *stages, last = ask(RECORDINGS[0], "all")
    found = [re.search(r"pass (\d) of 3", stage[0]) for stage in stages]
    # gradio writes a picture again where it comes again, into the file that is being read
    assert len([stage for stage in (*stages, last) if picture(stage)]) == 1
    assert list(dict.fromkeys(match[1] for match in found if match)) == ["1", "2", "3"]
    values = last[5]
    assert {"asr", "align", "chat"} <= set(values["tags"]) and values["labels"].keys() == FIELDS
    assert "asked: all eight tasks" in last[0] and "osum-waiting" not in last[0]


def test_silence_is_no_speech(listen, tmp_path):
    status, text, *_, values = listen(silence(tmp_path / "a.wav", 2), "asr")
    assert "no speech was found" in status and not text and values["no_speech"]


def test_in_the_browser_s_language(listen, tmp_path):
    status = listen(silence(tmp_path / "a.wav", 1), "sgc", language="zh")[0]
    assert "所提请求：说话人性别" in status and "没有发现语音" in status
    assert "没有音频" in listen(None, "asr", language="zh")[0]


@pytest.mark.parametrize(("ending", "codec", "rate"), [("webm", "libopus", 48_000), ("m4a", "aac", 16_000)])
def test_what_browsers_and_phones_record_is_heard(listen, tmp_path, ending, codec, rate):
    import av
    import numpy as np

    path = tmp_path / f"a.{ending}"
    silence_1N = np.zeros((1, 2 * rate), np.float32)  # which costs the model nothing
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(silence_1N, format="flt", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    values = listen(path, "asr")[5]
    assert values["audio"] == path.name and values["seconds"] == pytest.approx(2, abs=0.1)


def silence(path, seconds: float):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(16_000 * seconds)))
    return path


@pytest.mark.parametrize(
    ("make", "words", "hotwords", "message"),
    [
        (lambda tmp: None, "", "", "error: no recording"),
        (lambda tmp: silence(tmp / "long.wav", 5), "", "", "error: 5 s of sound: this page takes 4 s"),
        (lambda tmp: silence(tmp / "a.wav", 1), "x" * 501, "", "this page takes 500"),
        (lambda tmp: silence(tmp / "a.wav", 1), "", "x" * 501, "this page takes 500"),
        (lambda tmp: silence(tmp / "a.wav", 1), "", "<asr>", "error: hotword"),
        (lambda tmp: RECORDINGS[0].with_name("manifest.jsonl"), "", "", "error: not audio that can be read"),
    ],
)
def test_errors_have_one_place(listen, tmp_path, make, words, hotwords, message):
    status, *rest = listen(make(tmp_path), "asr", words, hotwords)
    assert message in status and status.count("osum-error") == 1 and "Traceback" not in status
    assert not any(rest)


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
    assert process.returncode == 0 and said.startswith("osum: ready\n"), said
    assert said.endswith("osum: stopped\n"), said
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


def test_a_model_that_cannot_be_loaded_ends_it(monkeypatch, capsys):
    def load(*_):
        raise UserError("a.ckpt: damaged")

    monkeypatch.setattr("mindspore_osum.api.OSUM.load", load)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["demo", "--port", "0"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "osum: a.ckpt: damaged"


def test_it_says_what_the_model_waits_for():
    loaded, halfway = Event(), Event()

    def load(waiting):
        halfway.wait(60)
        waiting("weights", 50, 100)
        waiting("graph", 3, 0)
        loaded.wait(60)

    listener = Listener(load, Limits(30, 30, 8))
    stages = listener.listen(Asked(str(RECORDINGS[0]), "asr", "", ""), Texts())
    try:
        assert next(stages).doing == "loading the model"
        halfway.set()
        assert next(stages).doing == "loading the model, 50%"
        assert next(stages).doing.endswith("compiling the model for a recording of this length (graph 3)")
        assert not listener.close(0.01)
    finally:
        loaded.set()


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
