"""A checkout whose code is run in processes of its own, on one thread, in a scratch folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

CHILDREN = Path(__file__).resolve().parent / "children"
ASSETS = "mindspore_osum/assets"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class CannotRecord(Exception):
    """A command that had to work did not; one line."""


class Checkout:
    """Code to run.

    Parameters
    ----------
    root : the checkout.
    work : an empty folder. Commands run there; `bundled`, `recordings` and `configs` lead to the checkout's,
        so that no path in a recording is that of a machine.
    """

    def __init__(self, root: Path, work: Path):
        self.root, self.work = root, work
        for name, path in {
            "bundled": f"{ASSETS}/tiny",
            "recordings": f"{ASSETS}/recordings",
            "configs": "configs",
        }.items():
            if not (work / name).exists():
                (work / name).symlink_to(root / path)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OSUM_", "MS_"))}
        self.env = kept | ONE_THREAD
        self.env |= {
            "PYTHONPATH": str(root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OSUM_GRAPH_CACHE": str(work / "graphs"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GLOG_v": "3",
        }

    @property
    def shared(self) -> Path | None:
        """The folder of golden data, or None."""
        path = Path(os.environ.get("OSUM_SHARED") or self.root.parent / "shared")
        return path if (path / "golden").is_dir() else None

    def recordings(self) -> list[str]:
        """The bundled recordings, seen from the scratch folder."""
        return [f"recordings/{path.name}" for path in sorted((self.work / "recordings").glob("*.wav"))]

    def run(self, *command: str | Path) -> str:
        """Standard output of a program that ends with 0."""
        done = subprocess.run(
            [str(word) for word in command], cwd=self.work, env=self.env, capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise CannotRecord(f"{' '.join(map(str, command))[:200]}: status {done.returncode}: {said[-1]}")
        return done.stdout

    def osum(self, *arguments: str) -> str:
        """Standard output of an `osum` command."""
        return self.run(sys.executable, "-m", "mindspore_osum", *arguments)

    def child(self, name: str, task: object) -> object:
        """What a script of children/ makes of `task`; both are JSON."""
        asked, answer = self.work / f"{name}.task.json", self.work / f"{name}.answer.json"
        asked.write_text(json.dumps(task, ensure_ascii=False), "utf-8")
        self.run(sys.executable, CHILDREN / f"{name}.py", asked, answer)
        return json.loads(answer.read_text("utf-8"))

    def verbs(self, commands: dict[str, list[str]]) -> dict[str, dict]:
        """Name -> {status, out} of several `osum` commands, run one after the other in one process."""
        return self.child("verbs", commands)
