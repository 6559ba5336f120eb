"""The manager's clock: the only place that reads the wall clock and the monotonic clock."""

import time
from pathlib import Path

from manager.domain.instant import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the host is suspended, so that a suspension is not taken for a step of the wall clock."""


def read() -> Instant:
    """Return the present moment on both clocks."""
    return Instant(time.time(), time.clock_gettime(_SINCE_BOOT))


def boot_id() -> str:
    """Return the id of the host's boot, within which the monotonic clock goes on; empty where there is none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
