"""The guard's memory: fewer collections of cyclic garbage, and freed memory given back to the kernel."""

import ctypes
import gc
from contextlib import suppress


def relax_garbage_collector() -> None:
    """Freeze the existing objects, which live as long as the process, and collect cyclic garbage less often.

    Detection makes no cycles, and a collection traverses all sources that it remembers.
    """
    release_memory()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def release_memory() -> None:
    """Give freed memory back to the kernel: a policy of 10,000 addresses takes many times its size while it is read."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
