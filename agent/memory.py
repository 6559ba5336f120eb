"""The guard's memory: fewer collections of cyclic garbage, and freed memory given back to the kernel."""

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameters of glibc's mallopt(3)."""


def relax_garbage_collector() -> None:
    """Freeze the existing objects, which live as long as the process, and collect cyclic garbage less often.

    Detection makes no cycles, and a collection traverses all sources that it remembers.
    """
    keep_large_blocks_apart()
    release_memory()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def keep_large_blocks_apart() -> None:
    """Have glibc map large blocks by themselves, so that they go back to the kernel once they are freed.

    By itself it raises the size from which it does so to that of the largest block that was ever freed.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 * 1024)
        libc.mallopt(_M_ARENA_MAX, 1)


def release_memory() -> None:
    """Give freed memory back to the kernel: a policy of 10,000 addresses takes many times its size while it is read."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
