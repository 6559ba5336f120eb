"""Python's collector of cyclic garbage, kept from walking again and again over a fleet that is no garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_rest() -> Iterator[None]:
    """Keep it from looking while a fleet is just being read: there is no garbage yet."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def spare() -> None:
    """Let it pass over what there is now, which lives as long as the process, and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
