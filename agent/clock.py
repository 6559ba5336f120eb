"""The clocks that a guard reads, bundled so that tests can replace them, and steps of the wall clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clock:
    """The host's clocks.

    Attributes:
        wall: Epoch seconds; may be wrong and may jump.
        monotonic: Seconds from an arbitrary start; never decreases. All deadlines use it.
        cpu: CPU seconds that this process has used.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time


STEP = 300.0
"""The smallest change of the wall clock, in seconds, that counts as a step."""

TOLD_FOR = 300.0
"""Seconds for which a source counts as degraded after a step, or after records were lost."""


class ClockSteps:
    """Notices that the wall clock was set, by comparing it with the monotonic clock.

    The monotonic clock rests while a host sleeps, so a sleep counts as a step forward.

    Args:
        clock: The host's clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()
        self._told = ""
        self._until = float("-inf")

    def recent(self, now: float) -> str | None:
        """Return a description of the latest step within `TOLD_FOR`; None without one.

        Args:
            now: The time on the monotonic clock.
        """
        offset = self._clock.wall() - self._clock.monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) >= STEP:
            direction = "forward" if step > 0 else "back"
            self._told = f"the host's clock went {direction} by {abs(step):.0f} s: it was set, or the host slept"
            self._until = now + TOLD_FOR
        return self._told if now < self._until else None


def boot_id() -> str:
    """Return the id of the host's boot; empty where the host tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
