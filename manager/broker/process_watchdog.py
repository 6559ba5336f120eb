"""Sign of life of the embedded broker's process: the child writes it at intervals, the parent detects its absence."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

INTERVAL_SECONDS = 5.0
SILENCE_SECONDS = 20.0
"""Seconds without a sign of life after which a broker counts as frozen; the supervisor replaces it within 30 s."""

_STEPS = 20
_STALL = 3.0
_PARENT_DEATH_SIGNAL = 1


class SilenceTimer:
    """Measures the silence of a child in steps, excluding the time during which this process itself was suspended.

    Args:
        limit: seconds of silence that count as frozen.
        clock: the monotonic clock.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = limit / _STEPS
        """Seconds between two calls of `lasts` without a sign of life."""
        self._limit = limit
        self._clock = clock
        self._last_call = clock()
        self._heard_nothing = 0.0

    def reset(self) -> None:
        """Restart the measurement after a sign of life."""
        self._last_call = self._clock()
        self._heard_nothing = 0.0

    def lasts(self) -> bool:
        """Count one step without a sign of life; return whether the limit is reached."""
        now = self._clock()
        elapsed, self._last_call = now - self._last_call, now
        # A step that took much longer was a pause of this process or of the machine, not of the child.
        self._heard_nothing += min(elapsed, self.step * _STALL)
        return self._heard_nothing >= self._limit


async def write_signs_of_life(descriptor: int, interval: float = INTERVAL_SECONDS) -> None:
    """Write a line at intervals, from the event loop whose activity it proves.

    Args:
        descriptor: the descriptor of a pipe; while the pipe is full nothing is written.
        interval: seconds.
    """
    os.set_blocking(descriptor, False)
    while True:
        try:
            os.write(descriptor, b'{"alive": true}\n')
        except BlockingIOError:
            pass  # the parent is suspended and has enough to read when it continues
        except BrokenPipeError:
            return  # the parent is gone: the end of stdin ends this process
        await asyncio.sleep(interval)


def die_with_parent(parent: int | None) -> None:
    """Make the kernel kill this process when its parent ends, even while this process is stopped (Linux only).

    On Linux the parent is the thread that started the process, so that thread must live as long as the parent.

    Args:
        parent: the parent's process id; if it has ended already, this process exits.
    """
    if sys.platform != "linux" or parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
