"""A real `osum serve` process, and what the tests send to it."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
WORDS = "谁在说话，多大年纪？"
TOKEN = "a-token-of-this-test"


class Server:
    """A running server: its process and the address of its API."""

    def __init__(self, process: subprocess.Popen, url: str):
        self.process, self.url, self.root = process, url, url.removesuffix("/v1")

    def openai(self, token: str = "none"):
        """The official client, which tries nothing twice."""
        import openai

        return openai.OpenAI(base_url=self.url, api_key=token, max_retries=0, timeout=240)

    def numbers(self) -> dict[tuple, float]:
        """/metrics as Prometheus' own parser reads it: (name, labels' values...) -> value."""
        import httpx
        from prometheus_client.parser import text_string_to_metric_families

        page = httpx.get(f"{self.root}/metrics", timeout=60)
        assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(page.text)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def stop(self) -> tuple[int, str]:
        """SIGTERM; (exit status, what it wrote since it began to serve)."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end; see `stop`."""
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@contextmanager
def serving(*args, **env):
    """A server on a free port; it is ended at the latest here."""
    command = [sys.executable, "-m", "mindspore_osum", "serve", "--port", "0", *map(str, args)]
    env = {k: v for k, v in os.environ.items() if k != "OSUM_TOKEN"} | {"PYTHONPATH": str(ROOT)} | env
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"served on (http://\S+)", line):
                yield Server(process, found[1])
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(said))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def audio_part(data: bytes, format: str = "wav") -> dict:
    """A recording as a part of a message."""
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": format}}


def messages(data: bytes, words: str | None = WORDS, format: str = "wav") -> list[dict]:
    """A chat about a recording."""
    text = [] if words is None else [{"type": "text", "text": words}]
    return [{"role": "user", "content": [audio_part(data, format), *text]}]


def encoded(wave_N: np.ndarray, rate: int = 16_000, format: str = "WAV") -> bytes:
    """A waveform as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, wave_N, rate, format=format)
    return file.getvalue()


def repeated(path: Path, times: int) -> bytes:
    """A long recording: the same sentence again and again, with pauses that divide."""
    wave_N, rate = soundfile.read(path, dtype="float32")
    pause = 1e-4 * np.random.default_rng(0).standard_normal(round(1.5 * rate)).astype(np.float32)
    return encoded(np.concatenate([wave_N, pause] * times), rate)
