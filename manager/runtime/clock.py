"""The one place where the manager reads its clocks."""

import time

from manager.domain.instant import Instant


def read() -> Instant:
    """Return this moment on both clocks."""
    return Instant(time.time(), time.monotonic())
