#!/usr/bin/env python3
"""Times `osum infer --engine ray` beside the plain command, and holds their answers equal.

    scripts/ray_bulk.py --count 5000 --replicas 2 --kill --output ray_bulk

Makes short recordings of the bundled ones, answers them with both, with --kill ends one of the replicas when
a third is done, and prints one JSON object. Exit status 1: an answer is another one, missing or there twice.
Times include starting Ray and loading models; graphs are compiled before.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "mindspore_osum" / "assets" / "recordings"
REPLICA = "ray::MapWorker"  # how Ray names the process of a replica
WARM_UP = 256  # recordings that are answered before anything is timed
SHORTEST = 0.9  # seconds


def main() -> int:
    """Make recordings, answer them twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000, help="recordings (default 5000)")
    parser.add_argument("--replicas", type=int, default=2, help="of the model (default 2)")
    parser.add_argument("--kill", action="store_true", help="end one replica when a third is done")
    parser.add_argument("--output", type=Path, required=True, help="folder for recordings and answers")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    manifest = make(args.output, args.count)
    ask(make(args.output, min(args.count, WARM_UP)), args.output / "warm_up.jsonl")
    plain = ask(manifest, args.output / "plain.jsonl")
    options = ["--engine", "ray", "--replicas", str(args.replicas)]
    ray = ask(manifest, args.output / "ray.jsonl", options, args.count if args.kill else 0)
    answers = [lines_of(args.output / name) for name in ("plain.jsonl", "ray.jsonl")]
    found = {
        "recordings": args.count,
        "replicas": args.replicas,
        "killed": args.kill,
        "plain_seconds": round(plain, 1),
        "ray_seconds": round(ray, 1),
        "ratio": round(plain / ray, 2),
        "equal": answers[0] == answers[1] and len(answers[0]) == args.count,
    }
    print(json.dumps(found))
    return 0 if found["equal"] else 1


def make(folder: Path, count: int) -> Path:
    """The manifest of so many recordings, which are made where they are missing: no two are equal."""
    sources = [soundfile.read(path, dtype="float32") for path in sorted(BUNDLED.glob("*.wav"))]
    (folder / "recordings").mkdir(exist_ok=True)
    manifest = folder / f"{count}.jsonl"
    with open(manifest, "w", encoding="utf-8") as lines:
        for number in range(count):
            turn, which = divmod(number, len(sources))
            wave_N, rate = sources[which]
            longest = max(1, len(wave_N) - round(SHORTEST * rate))
            path = folder / "recordings" / f"{number:06d}.wav"
            if not path.exists():
                wave_N = wave_N[: len(wave_N) - turn * rate // 50 % longest]  # 20 ms less each turn
                soundfile.write(path, wave_N * np.float32(0.5 + 0.4 * np.sin(turn)), rate)
            wav = str(path.relative_to(folder))
            print(json.dumps({"key": path.stem, "wav": wav, "txt": "-", "task": "<TRANSCRIBE>"}), file=lines)
    return manifest


def ask(manifest: Path, output: Path, options: list[str] = (), kill_at: int = 0) -> float:
    """Answer a manifest with the bundled model; returns the seconds of the whole command."""
    command = [sys.executable, "-m", "mindspore_osum", "infer", "--manifest", str(manifest)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, "--output", str(output), *options], env=os.environ | {"PYTHONPATH": path}
    )
    if kill_at:
        end_one(process, output.with_name(output.name + ".parts"), kill_at // 3)
    if process.wait():
        sys.exit(f"{' '.join(process.args)}: exit status {process.returncode}")
    return time.monotonic() - start


def end_one(process: subprocess.Popen, parts: Path, after: int) -> None:
    """Kill one replica when so many lines are in finished parts."""
    while process.poll() is None:
        found = (path.read_bytes().count(b"\n") for path in parts.glob("[0-9]*.jsonl"))
        if sum(found) >= after and (running := replicas_of(process.pid)):
            os.kill(running[0], signal.SIGKILL)
            return
        time.sleep(0.2)
    sys.exit("the command ended before a replica could be killed: take a larger --count")


def replicas_of(driver: int) -> list[int]:
    """The replicas among the processes that descend from one (Linux)."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except (OSError, ValueError):  # it has ended meanwhile
            continue

    def descends(pid: int) -> bool:
        while pid in parents and pid != driver:
            pid = parents[pid]
        return pid == driver

    return [pid for pid, name in names.items() if name.startswith(REPLICA) and descends(pid)]


def lines_of(path: Path) -> list[dict]:
    """The answers without what is measured."""
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "rtf"} for line in found]


if __name__ == "__main__":
    sys.exit(main())
