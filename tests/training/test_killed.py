"""kill -9 while checkpoints are written: what is left is always whole, and as new as what was reported."""

import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mindspore_osum.training import checkpoint
from mindspore_osum.weights_io import open_weights

ROOT = Path(__file__).resolve().parents[2]
KILLS, KEEP = 20, 2
# saves step after step, as a run does, and tells each step when its checkpoint is there
CHILD = """
import sys
from pathlib import Path
from mindspore_osum.training import checkpoint
from tests.training.test_killed import KEEP, arrays
folder = Path(sys.argv[1])
step = (checkpoint.found(folder) or [(0, None)])[-1][0]
print(step, flush=True)
while True:
    step += 1
    checkpoint.save(folder, step, arrays(step), {"fingerprint": {"of": step}}, KEEP)
    print(step, flush=True)
"""


def arrays(step: int) -> dict[str, np.ndarray]:
    """Some 1.6 MB in forty tensors, all of them told by the step."""
    return {f"p{i}": np.full((100, 100), step * 100 + i, np.float32) for i in range(40)} | {
        "global_step": np.array([step], np.int32)
    }


def kill_at_some_moment(folder: Path, rng: random.Random) -> int:
    """Let a child save for a while, kill it, return the last step it reported."""
    command = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        ready, _, _ = select.select([child.stdout], [], [], 60)
        assert ready, "the child did not begin"
        first = child.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.3))
        child.kill()
        told = [first, *child.stdout]
    assert child.returncode == -signal.SIGKILL
    return int([line for line in told if line.endswith("\n")][-1])


def test_the_newest_checkpoint_is_whole_after_every_kill(tmp_path):
    rng, inside = random.Random(7), 0
    for _ in range(KILLS):
        reported = kill_at_some_moment(tmp_path, rng)
        inside += any(tmp_path.glob(".step_*"))
        kept = checkpoint.found(tmp_path)
        assert (kept[-1][0] if kept else 0) in (reported, reported + 1)
        for step, path in kept:
            about = checkpoint.read_about(path)
            assert (about["step"], about["fingerprint"]) == (step, {"of": step})
            with open_weights(path / checkpoint.STATE) as weights:
                want = arrays(step)
                assert weights.infos.keys() == want.keys()
                assert all(np.array_equal(weights.read(name), values) for name, values in want.items())
    assert kept[-1][0] > KILLS  # they did save
    assert inside >= 3, "the kills did not hit a checkpoint being written"
    checkpoint.save(tmp_path, 10**6, arrays(10**6), {"fingerprint": {}}, KEEP)
    assert len(list(tmp_path.iterdir())) == KEEP  # nothing is left of the killed ones
