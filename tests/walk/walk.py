"""A first-time user's walk: install, listen, annotate, convert, fine-tune, measure, serve, demo.

    python tests/walk/walk.py [FOLDER]     # prints a table of times; writes into FOLDER, or a temporary one

Notable choices
- The package is built and installed beside this checkout, without its dependencies, and runs from there: what
  the distribution forgets is missing here, too.
- Every step is a process of its own, as a user's are. Its computing time must be under a minute; the time on
  the clock also counts what else the machine does and is shown only.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds of computing
DISTRIBUTION = ("setup.py", "pyproject.toml", "mindspore_osum", "ckpt_convert")
BOUNDARY = "a-boundary-of-this-walk"


class Done(NamedTuple):
    """A step that was gone."""

    title: str
    clock: float  # seconds
    computing: float  # seconds of all its processes


class Walk:
    """A walk in `folder`: the package is in folder/site, and commands run in folder/work."""

    def __init__(self, folder: Path):
        self.folder, self.site, self.work = folder, folder / "site", folder / "work"
        self.work.mkdir(parents=True)
        self.env = os.environ | {"PYTHONPATH": str(self.site)}
        self.wav = ""  # the first recording, as seen from `work`

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """(title, what it does), in order."""
        yield "install", self.install
        yield "infer", self.infer
        yield "annotate", self.annotate
        yield "convert, both ways", self.convert
        yield "import recordings", self.import_data
        yield "train three steps", self.train
        yield "eval", self.evaluate
        yield "serve", self.serve
        if self.osum("demo", "--help", check=False).returncode == 0:
            yield "demo", self.demo

    def osum(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run osum of the installed package; RuntimeError with what it said if it fails."""
        return self.run([sys.executable, "-m", "mindspore_osum", *words], check=check)

    def run(self, command: list[str], check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=self.work, env=self.env, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-3000:]}")
        return done

    # the steps

    def install(self) -> None:
        source = self.folder / "source"
        source.mkdir()
        for name in DISTRIBUTION:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        self.run([*pip, "--no-index", "--target", str(self.site), str(source)])
        shutil.rmtree(source)
        where = self.run([sys.executable, "-c", "import mindspore_osum as m; print(m.__file__)"]).stdout
        need(Path(where.strip()).is_relative_to(self.site), f"the package runs from {where}")
        self.run([sys.executable, str(ROOT / "examples/fine_tune/sample_data.py"), "my_data"])
        self.wav = min(str(path.relative_to(self.work)) for path in self.work.glob("my_data/wav/*.wav"))

    def infer(self) -> None:
        (line,) = map(json.loads, self.osum("infer", self.wav, "--task", "asr").stdout.splitlines())
        need(line["raw"] and line["seconds"] > 0, f"infer: {line}")

    def annotate(self) -> None:
        self.osum("annotate", self.wav, "--output", "annotations.jsonl")
        (line,) = map(json.loads, self.read("annotations.jsonl").splitlines())
        need(line["segments"], f"annotate: {line}")

    def convert(self) -> None:
        bundled = self.site / "mindspore_osum" / "assets" / "tiny"
        self.osum("convert", str(bundled), "--output", "published.pt")
        options = ("--preset", "tiny", "--tokenizer", str(bundled / "tokenizer.model"))
        self.osum("convert", "published.pt", *options, "--output", "model")
        self.osum("convert", "model", "--output", "again.pt")
        same = (self.work / "published.pt").read_bytes() == (self.work / "again.pt").read_bytes()
        need(same, "a checkpoint that went both ways has other bytes")

    def import_data(self) -> None:
        self.osum("data", "import", "own", "my_data", "manifests", "--task", "asr", "--task", "sgc")
        self.osum("data", "validate", "manifests/own-train-asr.jsonl", "manifests/own-valid-sgc.jsonl")

    def train(self) -> None:
        job = str(ROOT / "examples/fine_tune/job.yaml")
        start = ("model.start=model", "tokenizer=model/tokenizer.model", "output_dir=run")
        sets = [word for value in (*start, "steps=3", "log_every=1") for word in ("--set", value)]
        self.osum("train", "--config", job, *sets)
        lines = map(json.loads, self.read("run/metrics.jsonl").splitlines())
        losses = [line["loss"] for line in lines if "loss" in line]
        need(len(losses) == 3 and (self.work / "run/model/config.json").exists(), f"train: {losses}")

    def evaluate(self) -> None:
        options = ("--manifest", "manifests/own-valid-asr.jsonl", "--output", "eval", "--no-plots")
        self.osum("eval", "--model", "run/model", *options)
        metrics = json.loads(self.read("eval/metrics.json"))
        need(0 <= metrics["fixed"]["asr"]["wer"] < 10, f"eval: {metrics}")

    def serve(self) -> None:
        def ask(url: str) -> None:
            sound = (self.work / self.wav).read_bytes()
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            model = f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nmodel'
            body = head.encode() + sound + f"{model}\r\n--{BOUNDARY}--\r\n".encode()
            kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            request = urllib.request.Request(f"{url}/audio/transcriptions", body, kind)
            with urllib.request.urlopen(request, timeout=300) as answer:
                need(isinstance(json.load(answer)["text"], str), "serve: no text")

        self.up("serve", ask)

    def demo(self) -> None:
        def look(url: str) -> None:
            with urllib.request.urlopen(url, timeout=60) as page:
                need(b"<html" in page.read(), "demo: no page")

        self.up("demo", look)

    def up(self, verb: str, visit: Callable[[str], None]) -> None:
        """Start a verb that serves, visit it, ask it to stop; it must end with 0."""
        command = [sys.executable, "-m", "mindspore_osum", verb, "--port", "0", "--model", "run/model"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=self.work, env=self.env, stderr=pipe, text=True) as process:
            try:
                said = []
                for line in process.stderr:
                    said.append(line)
                    if found := re.search(r"(http://\S+)", line):
                        visit(found[1])
                        break
                else:
                    raise RuntimeError(f"osum {verb} did not start:\n{''.join(said)}")
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=120)
            finally:
                process.kill()
        need(process.returncode == 0, f"osum {verb} ended with {process.returncode}")

    def read(self, name: str) -> str:
        return (self.work / name).read_text(encoding="utf-8")


def need(ok, otherwise: str) -> None:
    if not ok:
        raise RuntimeError(otherwise)


def go(walk: Walk, tell: Callable[[str], None] = print) -> list[Done]:
    """All steps; a table of times is told as it grows.

    Raises
    ------
    RuntimeError
        A step failed; it says what the command said.
    """
    tell(f"{'step':<20} {'clock':>8} {'computing':>10}")
    gone = []
    for title, step in walk.steps():
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        step()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        gone.append(Done(title, time.perf_counter() - start, computing))
        tell(f"{title:<20} {gone[-1].clock:7.1f}s {computing:9.1f}s")
    return gone


def main() -> int:
    """Command line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary) / "walk"
        try:
            slow = [step.title for step in go(Walk(folder.resolve())) if step.computing >= LIMIT]
        except (RuntimeError, OSError) as error:
            print(f"walk.py: {error}", file=sys.stderr)
            return 1
    print(f"walk.py: over {LIMIT:.0f} s: {', '.join(slow)}" if slow else "every step under a minute")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
