"""Freed memory is kept: a large block that is freed and taken again costs no page faults."""

import subprocess
import sys

import pytest

PROBE = """
import resource, sys
import numpy as np
from mindspore_osum.allocator import keep_freed_memory
if len(sys.argv) > 1 and not keep_freed_memory():
    sys.exit(3)
def touch():
    np.ones(4_000_000, np.float32)  # 16 MB
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("needs glibc's mallopt")
    return int(done.stdout)


def test_a_block_that_is_taken_again_needs_no_new_pages():
    assert faults("kept") < 100 < faults()
