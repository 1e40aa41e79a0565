"""kill -9 at every call that writes a checkpoint: what is left is whole, and as new as what was reported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from mindspore_osum.training import checkpoint
from mindspore_osum.weights_io import open_weights
from tests.faults import killed_at

ROOT = Path(__file__).resolve().parents[2]
KEEP = 2


def arrays(step: int) -> dict[str, np.ndarray]:
    """Five tensors that the step decides; 200 kB, more than a file buffers."""
    values = {f"p{i}": np.full((100, 100), step * 100 + i, np.float32) for i in range(5)}
    return values | {"global_step": np.array([step], np.int32)}


def save(folder: Path, step: int) -> None:
    checkpoint.save(folder, step, arrays(step), {"fingerprint": {"of": step}}, KEEP)


def check_whole(folder: Path) -> list[int]:
    """The steps of the checkpoints there, each of which holds what was saved."""
    kept = checkpoint.found(folder)
    for step, path in kept:
        about = checkpoint.read_about(path)
        assert (about["step"], about["fingerprint"]) == (step, {"of": step})
        with open_weights(path / checkpoint.STATE) as weights:
            want = arrays(step)
            assert weights.infos.keys() == want.keys()
            assert all(np.array_equal(weights.read(name), values) for name, values in want.items())
    return [step for step, _ in kept]


def kill_at_every_call(folder: Path) -> list[list[int]]:
    """The steps left by a kill before each call of the third save, at last by the whole save."""
    before, run, left = folder / "before", folder / "run", []
    save(before, 1), save(before, 2)
    killed = True
    while killed:
        shutil.copytree(before, run)
        killed = killed_at(len(left) + 1, lambda: save(run, 3))
        left.append(check_whole(run))
        save(run, 4)  # goes on; nothing is left of the killed one
        assert check_whole(run) == [left[-1][-1], 4] and len(list(run.iterdir())) == KEEP
        shutil.rmtree(run)
    return left


def test_the_newest_checkpoint_is_whole_after_a_kill_at_every_call(tmp_path):
    """In a process without threads, as fork wants it."""
    command = [sys.executable, "-m", "tests.training.test_killed", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    left = [tuple(kept) for kept in json.loads(done.stdout)]
    ways = list(dict.fromkeys(left))
    assert ways == [(1, 2), (1, 2, 3), (2, 3)] and left == sorted(left, key=ways.index)  # in this order only
    assert left.count((1, 2)) > 20, "too few kills inside of a checkpoint"


if __name__ == "__main__":
    print(json.dumps(kill_at_every_call(Path(sys.argv[1]))))
