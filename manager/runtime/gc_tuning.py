"""GC tuning: freezes long-lived objects and raises thresholds, so that collections do not traverse the whole fleet."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 200_000
"""New container objects after which young ones are looked at: several batches make as many, and most are gone then."""


@contextmanager
def paused() -> Iterator[None]:
    """Disable collection while a fleet is loaded, and freeze the loaded objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def freeze_and_relax() -> None:
    """Freeze the existing objects, which live as long as the process, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)


def release() -> None:
    """Collect also what was frozen, after the end of what it was frozen for."""
    gc.unfreeze()
    gc.collect()
