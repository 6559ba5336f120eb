"""Watchdog of one channel: an address that is called only after a test event was delivered."""

import secrets
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 30.0
"""Seconds for one call."""


class Watchdog:
    """Begins a test event at intervals, and calls the address once the channel has delivered it.

    Args:
        channel: the channel's name, for logs.
        every: seconds between two test events.
        call: calls the address; may raise OSError. It runs in a thread of its own.
    """

    def __init__(self, channel: str, every: float, call: Callable[[], None]) -> None:
        self._channel = channel
        self._every = every
        self._call = call
        self._next = 0.0
        self._test_id: str | None = None
        self._calling: threading.Thread | None = None
        self.last_called: float | None = None

    def is_due(self, now: float) -> bool:
        """Return whether the next test event is due."""
        return now >= self._next

    def begin(self, now: float) -> str:
        """Return the id of a new test event; an earlier one counts no longer."""
        self._next = now + self._every
        self._test_id = f"watchdog-{secrets.token_hex(8)}"
        return self._test_id

    def delivered(self, test_id: str) -> None:
        """Call the address, if this is the newest test event and no earlier call still runs."""
        if test_id != self._test_id or (self._calling is not None and self._calling.is_alive()):
            return
        self._test_id = None
        self._calling = threading.Thread(target=self._work, name=f"watchdog-{self._channel}", daemon=True)
        self._calling.start()

    def _work(self) -> None:
        try:
            self._call()
        except Exception as error:  # noqa: BLE001 -- whatever a call raises, its text may hold the address
            log.warning("watchdog_not_called", channel=self._channel, reason=type(error).__name__)
