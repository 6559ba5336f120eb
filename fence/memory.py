"""The fence's memory: what is freed goes back to the kernel."""

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
"""A parameter of glibc's mallopt(3)."""


def keep_large_blocks_apart() -> None:
    """Have glibc map large blocks by themselves, so that they go back to the kernel once they are freed."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 64 * 1024)


def release_memory() -> None:
    """Give freed memory back to the kernel: a policy of 10,000 addresses takes many times its size while it is read."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
