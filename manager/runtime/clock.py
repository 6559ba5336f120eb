"""The manager's clock: the only place that reads the wall clock and the monotonic clock."""

import time

from manager.domain.instant import Instant


def read() -> Instant:
    """Return the present moment on both clocks."""
    return Instant(time.time(), time.monotonic())
