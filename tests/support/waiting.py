"""Polling with a deadline: the only way in which a test waits."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_pause = threading.Event()


def eventually(look: Callable[[], T], within: float = 60.0, what: str = "", pause: float = 0.05) -> T:
    """Return the first true value of `look`; fail if there is none within so many seconds."""
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or look.__name__} (last: {value!r})")
        _pause.wait(pause)
