"""Python's collector of cyclic garbage, kept from walking again and again over a fleet that is no garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_rest() -> Iterator[None]:
    """Keep it from walking over a fleet while it is read, and afterwards."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def spare() -> None:
    """Let it pass over what there is now, which lives as long as the process, and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
