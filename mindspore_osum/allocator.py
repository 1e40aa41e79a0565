"""The C allocator's settings for graphs on CPU."""

import ctypes

# malloc.h of glibc
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory for the next allocation; call before the first graph runs.

    A step on CPU allocates and frees the same large blocks repeatedly. By default each block is requested
    from the kernel and cleared page by page, which took a quarter of a small model's training step.

    Returns
    -------
    False if the C library has no such settings; then nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    sizes = ((M_MMAP_THRESHOLD, KEPT), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, KEPT // 8))
    return all([mallopt(name, size) == 1 for name, size in sizes])


def give_back_freed_memory() -> bool:
    """Return what has been freed to the system at once, kept or not.

    Returns
    -------
    False if the C library cannot.
    """
    try:
        return ctypes.CDLL(None).malloc_trim(0) in (0, 1)
    except (OSError, AttributeError):
        return False
