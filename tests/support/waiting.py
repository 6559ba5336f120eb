"""Polling with a deadline: the only way in which a test waits."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_pause = threading.Event()
_LONGEST_PAUSE = 0.25
"""Seconds between two looks, however long the wait: one may take a request, a connection to a database, a process."""


def eventually(look: Callable[[], T], within: float = 120.0, what: str = "", pause: float = 0.05) -> T:
    """Return the first true value of `look`; fail if there is none within so many seconds.

    Args:
        look: is called again and again.
        within: seconds after which it is called for the last time.
        what: the words of the failure.
        pause: seconds between two looks at first; later a tenth of the time that was waited.
    """
    began = time.monotonic()
    while True:
        value = look()
        if value:
            return value
        waited = time.monotonic() - began
        if waited > within:
            raise AssertionError(f"not within {within:g} s: {what or look.__name__} (last: {value!r})")
        _pause.wait(max(pause, min(waited / 10, _LONGEST_PAUSE)))
