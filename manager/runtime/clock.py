"""The manager's clock: the only place that reads the wall clock and the monotonic clock."""

import time
from pathlib import Path

from manager.domain.instant import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock id; it includes suspended time, so that a suspension does not count as a step of the wall clock."""


def read() -> Instant:
    """Return the current time on both clocks."""
    return Instant(time.time(), time.clock_gettime(_SINCE_BOOT))


def boot_id() -> str:
    """Return the host's boot id, within which the monotonic clock is continuous; empty if the system has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
