"""What graphs hold where they compute, measured.

Notable choices
- On CPU a compiled graph keeps its kernels' outputs between runs: 0.4 GB for a window of 30 s with a
  whisper-base. MindSpore does not report it there, so it is the process's own memory that is measured.
- On Ascend a graph's outputs come from a pool that all graphs share; what is counted is what the pool has
  handed out and not got back.
"""

import os

import mindspore as ms

from mindspore_osum.allocator import give_back_freed_memory
from mindspore_osum.models.target import target


def held() -> int:
    """Bytes that this process holds where it computes, without what has been freed; 0 if that is not known.

    Gives freed memory back, which costs the next large allocations some time: for use around a compilation.
    """
    give_back()
    if target() == "Ascend":
        return ms.runtime.memory_allocated()
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            resident, of_files = map(int, file.read().split()[1:3])
    except OSError:
        return 0
    return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Return what has been freed to the system or the device, which allocators keep otherwise."""
    if target() == "Ascend":
        ms.runtime.empty_cache()
    else:
        give_back_freed_memory()
