"""Listens for a database's notifications, and hears itself: silence means that notifications do not arrive."""

import secrets
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import psycopg
import structlog

from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.server_checks import POOLER, connected

log = structlog.get_logger(__name__)

INTERVAL = 5.0
"""Seconds between two notifications to itself, and the longest wait for one of them."""

_PATIENCE = 3 * INTERVAL
_AGAIN = 1.0
"""Seconds until the next attempt to connect."""

Hear = Callable[[str, str], None]
"""Takes the channel and the text of a notification; called in the listener's thread."""


class Listener:
    """A thread that listens on a connection of its own, and notifies itself on a second one.

    On the same connection it would hear itself even behind a pooler that hands the connection to others in between.
    A lost connection is made anew; what was said meanwhile is not heard, so `hear` is called with an empty channel
    once the listener listens again.

    Args:
        address: the database.
        channels: the channels.
        hear: called with each notification, and after each connection.
        interval: seconds between two notifications to itself.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        channels: Collection[str] = (),
        hear: Hear | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._interval = interval
        self._address = address
        self._own = f"panguard_self_{secrets.token_hex(8)}"
        self._channels = (*channels, self._own)
        self._hear = hear
        self._heard_at = time.monotonic()
        self._was_connected_at: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-listener", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connections."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def silent_for(self) -> float:
        """Seconds since this process heard itself, or since it began to listen for the first time."""
        return time.monotonic() - self._heard_at

    @property
    def problem(self) -> str | None:
        """The reason why notifications do not arrive; None if they do."""
        silent, connected_at = self.silent_for, self._was_connected_at
        if silent <= _PATIENCE:
            return None
        if connected_at is None or time.monotonic() - connected_at <= _PATIENCE:
            return f"the database {self._address} cannot be listened to"
        return POOLER.format(self._address)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with connected(self._address) as listening, connected(self._address) as telling:
                    self._listen(listening, telling)
            except psycopg.Error as error:
                log.warning("database_listener_lost", reason=str(error).strip())
            self._was_connected_at = None
            self._stopping.wait(_AGAIN)

    def _listen(self, listening: psycopg.Connection[Any], telling: psycopg.Connection[Any]) -> None:
        for channel in self._channels:
            listening.execute(f"LISTEN {channel}".encode())
        self._was_connected_at = time.monotonic()
        if self._hear is not None:
            self._hear("", "")
        while not self._stopping.is_set():
            telling.execute("SELECT pg_notify(%s, '')", (self._own,))
            until = time.monotonic() + self._interval
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                for notification in listening.notifies(timeout=min(left, _AGAIN), stop_after=1):
                    self._take(notification.channel, notification.payload)

    def _take(self, channel: str, text: str) -> None:
        if channel == self._own:
            self._heard_at = time.monotonic()
        elif self._hear is not None:
            self._hear(channel, text)
